"""The early signal of motion training: does the right caption help the denoiser more than the opposite motion's?

Where a shape starts and which way it goes is decided at the highest noise levels, long before generated videos show
it. A gap of zero there means that the model does not read the motion words yet.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fusionframes_core.models.text_encoder import TextContext, TextEncoder
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise, prediction_target

from ..moving_shapes.scenes import MOTIONS, Scene

_PAIRS = (
    ("moving left", "moving right"),
    ("moving up", "moving down"),
    ("growing", "shrinking"),
    ("spinning", "standing still"),
    ("bouncing left and right", "bouncing up and down"),
)
OPPOSITE: dict[str, str] = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}

Predict = Callable[[Tensor, Tensor, TextContext], Tensor]
"""(x (B, 4, T, h, w), t (B,), text of B prompts) → the network's output, of x's shape."""


def plain_caption(scene: Scene, motion: str | None = None) -> str:
    """The scene in the canonical wording, with `motion` instead of its own if given.

    A spin and its opposite, standing still, go without a speed, so that opposites differ in the motion alone.
    """
    motion = motion or scene.motion
    speed = "" if motion in ("spinning", "standing still") else f" {scene.speed}"
    return f"a {scene.size} {scene.colour} {scene.shape} {MOTIONS[motion][0][1]}{speed}"


@torch.no_grad()
def motion_gap(
    predict: Predict,
    latents: Tensor,
    scenes: Sequence[Scene],
    text_encoder: TextEncoder,
    schedule: NoiseSchedule,
    generator: torch.Generator,
    prediction: str = "v",
    lowest: float = 0.8,
) -> dict[str, float]:
    """Losses on latents (B, 4, T, h, w) at the noisiest times with the right and with the opposite caption.

    Times are spread evenly over [lowest, 1) of the schedule; noise comes from `generator`; both captions see the same.
    Scenes without an opposite (circling; a circle, which cannot be seen spinning) are left out. Returns `gap_right`,
    `gap_wrong` (mean losses), `gap` (their difference), `gap_ratio` (wrong / right), `gap_wins` (share of clips whose
    right caption has the lower loss) and `gap/<motion>` (difference by motion). Raises ValueError when no scene is
    left.
    """
    chosen = [i for i, scene in enumerate(scenes) if scene.motion in OPPOSITE and not _hidden(scene)]
    if not chosen:
        raise ValueError("scenes must hold at least one whose motion has an opposite")
    x0, picked = latents[chosen].float(), [scenes[i] for i in chosen]
    t = torch.linspace(lowest * schedule.num_steps, schedule.num_steps - 1, len(chosen)).round().long()
    t = t[torch.randperm(len(t), generator=generator)].to(x0.device)
    noise = torch.randn(x0.shape, generator=generator).to(x0.device)
    alpha, sigma = schedule.alpha_sigma(t)
    x, target = add_noise(x0, noise, alpha, sigma), prediction_target(prediction, x0, noise, alpha, sigma)
    losses = []
    for captions in (
        [plain_caption(scene) for scene in picked],
        [plain_caption(scene, OPPOSITE[scene.motion]) for scene in picked],
    ):
        output = predict(x, t, text_encoder.encode(captions))
        losses.append((output.float() - target).square().flatten(1).mean(dim=1).cpu())
    return _report(picked, *losses)


def _hidden(scene: Scene) -> bool:
    return scene.shape == "circle" and "spinning" in (scene.motion, OPPOSITE[scene.motion])


def _report(scenes: Sequence[Scene], right: Tensor, wrong: Tensor) -> dict[str, float]:
    by_motion: dict[str, list[float]] = collections.defaultdict(list)
    for scene, difference in zip(scenes, (wrong - right).tolist(), strict=True):
        by_motion[scene.motion].append(difference)
    report = {
        "gap_right": right.mean().item(),
        "gap_wrong": wrong.mean().item(),
        "gap": (wrong - right).mean().item(),
        "gap_ratio": (wrong.mean() / right.mean().clamp(min=1e-12)).item(),
        "gap_wins": (wrong > right).float().mean().item(),
    }
    return report | {f"gap/{motion}": sum(values) / len(values) for motion, values in sorted(by_motion.items())}

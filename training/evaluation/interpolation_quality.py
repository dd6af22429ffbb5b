"""Is interpolation worth it? True keyframes of unseen clips in, interpolated frames against the true ones.

Beside it stand linear blending of the latents and of the pixels, and the autoencoder's own ceiling: the true frames
encoded and decoded. Only the frames between keyframes count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..moving_shapes.scene_pixels import render_pixels
from ..moving_shapes.scenes import FAST_MOTIONS, KEYFRAME_STEP, Scene, sample_scene
from .video_metrics import print_table, psnr

KEYFRAMES = 16
BETWEEN = 3  # frames that one pass puts between two
MAX_PSNR = 60.0  # dB; an error below that of rounding to 8 bits counts as none
SETS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "fast": (*((motion, ("slowly", "quickly")) for motion in FAST_MOTIONS), ("spinning", ("quickly",))),
    "slow": tuple(
        (motion, ("slowly",))
        for motion in (
            *("moving left", "moving right", "moving up", "moving down"),
            *("growing", "shrinking", "spinning", "standing still"),
        )
    ),
}
# Pass → (base frames between the frames it is given, skip-frame condition).
PASSES = {1: (KEYFRAME_STEP, 3), 2: (KEYFRAME_STEP / 4, 1)}
METHODS = ("interpolation", "linear latents", "linear pixels, decoded", "linear pixels, true", "ceiling")
# dB that interpolation has to gain: on fast clips in the mean, on slow ones on every clip.
WANTED = {"fast": {"linear latents": 3.5, "linear pixels, decoded": 2.0}, "slow": {"linear latents": -0.3}}


@dataclass(frozen=True)
class VideoTools:
    """What is evaluated, as functions of batches.

    `encode` pixels (B, 3, T, H, W) → latents (B, 4, T, h, w); `decode` the other way;
    `interpolate(latents, skip_frames, seed)` (B, 4, T, h, w) → (B, 4, 4T − 3, h, w).
    """

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    interpolate: Callable[[Tensor, int, int], Tensor]
    size: int = 64


def blend(frames: Tensor) -> Tensor:
    """Linear blending (B, C, T, H, W) → (B, C, 4T − 3, H, W), the given frames in their places."""
    weight = torch.arange(BETWEEN + 1, device=frames.device, dtype=frames.dtype) / (BETWEEN + 1)
    left, right = frames[:, :, :-1, None], frames[:, :, 1:, None]
    groups = left + weight.view(-1, 1, 1) * (right - left)  # (B, C, T − 1, 4, H, W)
    return torch.cat([groups.flatten(2, 3), frames[:, :, -1:]], dim=2)


def between(video: Tensor) -> Tensor:
    """The frames of (B, C, 4T − 3, H, W) that are not given frames."""
    keep = torch.arange(video.shape[2], device=video.device) % (BETWEEN + 1) != 0
    return video[:, :, keep]


def draw_scenes(kind: str, count: int, seed: int) -> list[Scene]:
    """`count` scenes of SETS[kind], each motion and speed as often, of combinations that training never sees."""
    rng = np.random.default_rng((seed, list(SETS).index(kind)))
    choices = [(motion, speed) for motion, speeds in SETS[kind] for speed in speeds]
    picked = [choices[i % len(choices)] for i in range(count)]
    return [sample_scene(rng, held_out=True, motion=motion, speed=speed) for motion, speed in picked]


@torch.no_grad()
def compare(tools: VideoTools, scenes: list[Scene], step: float, skip_frames: int, seed: int) -> dict[str, Tensor]:
    """PSNR (B,) of every method on the frames between keyframes `step` base frames apart."""
    times = np.arange((KEYFRAMES - 1) * (BETWEEN + 1) + 1) * step / (BETWEEN + 1)
    truth = render_pixels([(scene, times) for scene in scenes], tools.size)
    keyframes = truth[:, :, :: BETWEEN + 1]
    latents = tools.encode(keyframes)
    videos = {
        "interpolation": tools.decode(tools.interpolate(latents, skip_frames, seed)),
        "linear latents": tools.decode(blend(latents)),
        "linear pixels, decoded": blend(tools.decode(latents).clamp(-1, 1)),
        "linear pixels, true": blend(keyframes),
        "ceiling": tools.decode(tools.encode(truth)),
    }
    wanted = between(truth)
    return {name: psnr(between(video), wanted).clamp(max=MAX_PSNR).cpu() for name, video in videos.items()}


def evaluate_interpolation(
    tools: VideoTools, clips: int = 64, seed: int = 0, batch: int = 4, passes: tuple[int, ...] = (1, 2)
) -> dict[str, Any]:
    """Mean PSNR of every method, set and pass over `clips` clips each, interpolation's gains, and what is reached."""
    report: dict[str, Any] = {"clips": clips, "seed": seed, "wanted": WANTED}
    for number in passes:
        step, skip_frames = PASSES[number]
        report[f"pass {number}"] = {"skip_frames": skip_frames, "frames_apart": step / (BETWEEN + 1)}
        for kind in SETS:
            scenes = draw_scenes(kind, clips, seed)
            batches = [
                compare(tools, scenes[i : i + batch], step, skip_frames, seed + i)
                for i in tqdm(range(0, clips, batch), desc=f"pass {number}, {kind} clips", mininterval=5)
            ]
            values = {name: torch.cat([values[name] for values in batches]) for name in METHODS}
            report[f"pass {number}"][kind] = summarise(scenes, values)
            if kind == "fast":  # and those of them that move quickly, which have the most to gain
                report[f"pass {number}"]["quick"] = summarise(*quick(scenes, values))
    if 1 in passes:
        report["reached"] = reached(report["pass 1"])
    return report


def quick(scenes: list[Scene], values: dict[str, Tensor]) -> tuple[list[Scene], dict[str, Tensor]]:
    """The clips that move quickly; all of them if none does."""
    chosen = [i for i, scene in enumerate(scenes) if scene.speed == "quickly"] or list(range(len(scenes)))
    return [scenes[i] for i in chosen], {name: value[chosen] for name, value in values.items()}


def summarise(scenes: list[Scene], values: dict[str, Tensor]) -> dict[str, Any]:
    """Means over clips, mean and worst gain of interpolation over each other method, and means by motion."""
    gains = {name: values["interpolation"] - values[name] for name in METHODS[1:]}
    names = np.array([f"{scene.motion}, {scene.speed}" for scene in scenes])
    return {
        "psnr": {name: value.mean().item() for name, value in values.items()},
        "gain": {name: gain.mean().item() for name, gain in gains.items()},
        "worst_gain": {name: gain.min().item() for name, gain in gains.items()},
        "by_motion": {
            str(motion): {
                name: value[torch.from_numpy(names == motion)].mean().item() for name, value in values.items()
            }
            for motion in np.unique(names)
        },
    }


def reached(results: dict[str, Any]) -> dict[str, bool]:
    """Which of WANTED the first pass reaches."""
    figure = {"fast": "gain", "slow": "worst_gain"}
    return {
        f"{kind}: {name} {least:+.1f} dB": results[kind][figure[kind]][name] >= least
        for kind, wanted in WANTED.items()
        for name, least in wanted.items()
    }


def print_interpolation(report: dict[str, Any]) -> None:
    """Print the report, a table of PSNR for each pass, and which claims it bears out."""
    for key in (key for key in report if key.startswith("pass ")):
        rows = []
        for kind in ("fast", "quick", "slow"):
            figures = report[key][kind]
            rows.append((kind, *(figures["psnr"][name] for name in METHODS)))
            rows.append((f"{kind}: gain over it", "", *(f"{figures['gain'][name]:+.2f}" for name in METHODS[1:])))
            rows.append((f"{kind}: on the worst clip", "", *(f"{figures['worst_gain'][n]:+.2f}" for n in METHODS[1:])))
        title = f"{key}, s = {report[key]['skip_frames']}: PSNR in dB, {report['clips']} clips of each set"
        print_table(title, ("clips", *METHODS), rows)
    for claim, holds in report.get("reached", {}).items():
        print(f"{'reached' if holds else 'MISSED '}  {claim}")

"""Sweeps that need no training: the skip-frame value, which the paper leaves open, and the guidance weight."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from fusionframes_core.pipeline import FusionFramesPipeline

from ..evaluation.interpolation_quality import BETWEEN, KEYFRAMES, PASSES, between, blend, draw_scenes
from ..evaluation.video_metrics import psnr
from ..moving_shapes.clips import MAX_SKIP, WINDOW
from ..moving_shapes.scene_pixels import render_pixels
from ..moving_shapes.scenes import CLIP_LENGTH, Scene, sample_scene
from .runs import Budget, Row, RowFigures, Summary, Table

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
DEFAULT_SKIP = 3  # of the first pass, section 5


@cache
def pipeline_of(model: str) -> FusionFramesPipeline:
    """The model under test, loaded once."""
    return FusionFramesPipeline.from_pretrained(model)


def skip_clips(skip: int, count: int, seed: int) -> list[tuple[Scene, np.ndarray]]:
    """Scenes of unseen combinations and the times of 33 frames `skip` apart, inside the clip where they fit."""
    rng = np.random.default_rng((seed, 4))  # the same scenes for every skip
    scenes = [sample_scene(rng, held_out=True) for _ in range(count)]
    starts, room = rng.uniform(size=count), CLIP_LENGTH - skip * (WINDOW - 1)
    return [
        (scene, min(0.0, room) + start * abs(room) + skip * np.arange(WINDOW))
        for scene, start in zip(scenes, starts, strict=True)
    ]


@torch.no_grad()
def measure_skip(budget: Budget, skip: int, seed: int) -> RowFigures:
    """PSNR in dB with the true skip as condition and with the first pass' 3 instead, and that of blended latents."""
    pipeline = pipeline_of(budget.model)
    size = pipeline.config.size[0]
    rows = []
    for index, (scene, times) in enumerate(skip_clips(skip, budget.clips, seed)):
        truth = render_pixels([(scene, times)], size)
        latents = pipeline.encode(truth[:, :, :: BETWEEN + 1])
        videos = {
            "true skip": pipeline.interpolate(latents, skip_frames=skip, seed=seed + index),
            "told_3": pipeline.interpolate(latents, skip_frames=DEFAULT_SKIP, seed=seed + index),
            "blend": blend(latents),
        }
        rows.append({name: _psnr(pipeline.decode(video), truth) for name, video in videos.items()})
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return {
        "psnr": means["true skip"],
        "blend": means["blend"],
        "gain": means["true skip"] - means["blend"],
        "told_3": means["told_3"],
    }


def _psnr(video: Tensor, truth: Tensor) -> float:
    return float(psnr(between(video), between(truth)))


@torch.no_grad()
def measure_guidance(budget: Budget, weight: float, seed: int) -> RowFigures:
    """PSNR of 16 → 61 frames on fast clips with context guidance `weight` (eq. 5), and how much is copied.

    `distance` is the mean distance of the frames between keyframes from the nearer keyframe, relative to the true
    frames' own: below 1 the model copies keyframes.
    """
    pipeline = pipeline_of(budget.model)
    step, skip = PASSES[1]
    times = np.arange((KEYFRAMES - 1) * (BETWEEN + 1) + 1) * step / (BETWEEN + 1)
    values, distances = [], []
    for index, scene in enumerate(draw_scenes("fast", budget.clips, seed)):
        truth = render_pixels([(scene, times)], pipeline.config.size[0])
        latents = pipeline.encode(truth[:, :, :: BETWEEN + 1])
        video = pipeline.interpolate(latents, skip_frames=skip, guidance=weight, seed=seed + index)
        output = pipeline.decode(video).clamp(-1, 1)
        values.append(_psnr(output, truth))
        distances.append(from_keyframes(output) / from_keyframes(pipeline.decode(pipeline.encode(truth))))
    return {"psnr": float(np.mean(values)), "distance": float(np.mean(distances))}


def from_keyframes(video: Tensor) -> float:
    """Mean |frame − the nearer keyframe| over the frames between keyframes; the middle ones count with both."""
    groups = video[:, :, :-1].unflatten(2, (-1, BETWEEN + 1))
    left, right = groups[:, :, :, :1], video[:, :, BETWEEN + 1 :: BETWEEN + 1, None]
    to_left, to_right = ((groups[:, :, :, 1:] - key).abs().mean(dim=(1, 4, 5)) for key in (left, right.expand_as(left)))
    return float(torch.minimum(to_left, to_right).mean())


def _skip_verdict(means: Summary) -> list[str]:
    if not means:
        return []
    best, worst = (choose(means, key=lambda name: means[name]["gain"][0]) for choose in (max, min))
    gains = {name: row["gain"][0] for name, row in means.items()}
    lost = [name for name, gain in gains.items() if gain < 0]
    better = [name for name, row in means.items() if row["psnr"][0] > row["told_3"][0] + 0.005]
    what = "The gain over blending" if len(means) == MAX_SKIP else "In the rows that were run, the gain over blending"
    return [
        "The paper draws s from 1 to 12 in training, uses 3 and 1, and measures no other.",
        f"{what} is largest at {best} ({gains[best]:+.2f} dB) and smallest at {worst} "
        f"({gains[worst]:+.2f} dB); " + (f"it is below 0 at {', '.join(lost)}." if lost else "it is never below 0."),
        f"Telling the true s instead of 3 gives a higher PSNR at {', '.join(better) or 'none'}.",
    ]


def _guidance_verdict(means: Summary) -> list[str]:
    if len(means) < len(WEIGHTS):
        return []
    score = {weight: means[f"w = {weight:g}"]["psnr"][0] for weight in WEIGHTS}
    near = {weight: means[f"w = {weight:g}"]["distance"][0] for weight in WEIGHTS}
    best = max(score, key=lambda weight: score[weight])
    useful = all(score[weight] > score[0.0] for weight in (0.25, 0.5))
    hurts = all(score[weight] < max(score[0.25], score[0.5]) for weight in WEIGHTS if weight > 0.5)
    copies = near[2.0] < near[0.25]
    return [
        f"PSNR is best at w = {best:g}.",
        f"The paper (w = 0.25 to 0.5 is useful) {'comes out' if useful else 'does not come out'}: 0.25 gives "
        f"{score[0.25] - score[0.0]:+.2f} dB and 0.5 {score[0.5] - score[0.0]:+.2f} dB against w = 0.",
        f"The paper (more hurts) {'comes out' if hurts else 'does not come out'}: w = 2 gives "
        f"{score[2.0] - score[0.0]:+.2f} dB against w = 0.",
        f"The paper (the model copies keyframes at large w) {'comes out' if copies else 'does not come out'}: the "
        f"distance from the nearer keyframe goes from {near[0.25]:.3f} at 0.25 to {near[2.0]:.3f} at 2.",
    ]


def skip_rows(budget: Budget) -> list[Row]:
    """Every skip-frame value that training draws: s = 1 ... 12."""
    return [Row(f"s = {skip}", partial(measure_skip, budget, skip)) for skip in range(1, MAX_SKIP + 1)]


def guidance_rows(budget: Budget) -> list[Row]:
    """Every weight of WEIGHTS: w = 0 ... 2."""
    return [Row(f"w = {weight:g}", partial(measure_guidance, budget, weight)) for weight in WEIGHTS]


SKIP = Table(
    "skip",
    "Skip-frame value s (section 4.2)",
    "9 true keyframes of unseen clips, 4s base frames apart, to 33 frames; from s = 6 on that is longer than a clip of "
    "the data set, and shapes leave the frame. PSNR of the frames between keyframes, and that of blended latents; "
    "`told 3`: the model is told s = 3 whatever it is.",
    {"psnr": "PSNR (dB)", "blend": "blended latents (dB)", "gain": "gain (dB)", "told_3": "told 3 (dB)"},
    ("clips", "model"),
    skip_rows,
    _skip_verdict,
)
GUIDANCE = Table(
    "guidance",
    "Context guidance weight w (section 4.2, eq. 5)",
    "16 true keyframes of unseen fast clips to 61 frames, s = 3, with the model's own number of steps. `distance`: how "
    "far the frames between keyframes are from the nearer keyframe, against the true frames' (below 1: keyframes are "
    "copied).",
    {"psnr": "PSNR (dB)", "distance": "distance"},
    ("clips", "model"),
    guidance_rows,
    _guidance_verdict,
    {"distance": 3},
)

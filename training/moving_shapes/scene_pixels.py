"""Moving Shapes as pixels in [-1, 1]: given scenes, and random frames and sequences for the autoencoder stages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fusionframes_core.media.frames import to_pixels

from .scenes import CLIP_LENGTH, Scene, render, sample_scene

View = tuple[Scene, NDArray[np.floating]]
"""A scene and the times (T,) in base frames to show it at."""

STEPS = (0.75, 1.5, 3.0, 6.0, 12.0)  # base frames between neighbours of a sequence, before and after interpolation


def render_pixels(views: Sequence[View], size: int) -> Tensor:
    """Pixels (B, 3, T, size, size) of scenes, all at the same number of times."""
    frames = np.concatenate([render(scene, times, size) for scene, times in views])
    # In memory they stay as they were drawn, channels last.
    return to_pixels(frames).unflatten(1, (len(views), -1)).movedim(1, 0)


def random_frames(rng: np.random.Generator, count: int, size: int, held_out: bool = False) -> Tensor:
    """(count, 3, 1, size, size): single frames of random scenes."""
    views = [(sample_scene(rng, held_out), np.array([rng.uniform(0, CLIP_LENGTH)])) for _ in range(count)]
    return render_pixels(views, size)


def random_clips(rng: np.random.Generator, count: int, frames: int, size: int, held_out: bool = False) -> Tensor:
    """(count, 3, frames, size, size): neighbouring frames 0.75 to 12 base frames apart, 3 the most often."""
    views = []
    for _ in range(count):
        step = 3.0 if rng.random() < 0.5 else float(rng.choice(STEPS))
        start = rng.uniform(0, max(0.0, CLIP_LENGTH - step * (frames - 1)))
        views.append((sample_scene(rng, held_out), start + step * np.arange(frames)))
    return render_pixels(views, size)

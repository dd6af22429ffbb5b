"""Moving Shapes as pixels: the frames that `render` draws, in a batch."""

from __future__ import annotations

import numpy as np
import torch

from fusionframes_core.media.frames import to_pixels
from training.moving_shapes.scene_pixels import random_clips, random_frames, render_pixels
from training.moving_shapes.scenes import render, sample_scene


def test_a_batch_is_its_scenes_as_pixels() -> None:
    """To the bit, and channels last in memory, as one video is."""
    rng = np.random.default_rng(0)
    views = [(sample_scene(rng), start + 3.0 * np.arange(5)) for start in (0.0, 7.5, 100.0)]
    batch = render_pixels(views, 32)
    assert batch.shape == (3, 3, 5, 32, 32)
    for pixels, (scene, times) in zip(batch, views, strict=True):
        alone = to_pixels(render(scene, times, 32))
        assert torch.equal(pixels, alone)
        assert pixels.stride() == alone.stride()


def test_random_frames_and_clips_depend_on_the_generator_alone() -> None:
    for draw, shape in (
        (lambda seed: random_frames(np.random.default_rng(seed), 2, 16), (2, 3, 1, 16, 16)),
        (lambda seed: random_clips(np.random.default_rng(seed), 2, 8, 16), (2, 3, 8, 16, 16)),
    ):
        first = draw(1)
        assert first.shape == shape
        assert first.abs().max() <= 1
        assert torch.equal(draw(1), first)
        assert not torch.equal(draw(2), first)

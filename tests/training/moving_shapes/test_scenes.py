"""Scenes: where their shapes stand."""

from __future__ import annotations

import numpy as np

from training.moving_shapes.scenes import keyframe_times, render, sample_scene


def test_spinning_shapes_stand_in_the_middle() -> None:
    """So close to it that a model knows the place before it decides the angle; the middle of the frame is theirs."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        scene = sample_scene(rng, motion="spinning")
        assert np.abs(scene.offset).max() <= 1
        background, first = render(scene, keyframe_times())[0, [0, -1], [0, -1]], render(scene, np.zeros(1))[0]
        assert np.abs(first[32, 32].astype(int) - background.astype(int)).max() > 20

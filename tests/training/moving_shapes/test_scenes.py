"""Scenes and what captions say of them."""

from __future__ import annotations

import numpy as np
import pytest

from training.moving_shapes.prompts_file import parse_prompt
from training.moving_shapes.scenes import caption, keyframe_times, render, sample_scene


@pytest.mark.parametrize("unsaid", [0.0, 0.3, 1.0])
def test_a_colour_is_left_out_as_often_as_asked_for(unsaid: float) -> None:
    """All else is said as before, or not: shape and motion always."""
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng) for _ in range(400)]
    found = [parse_prompt(caption(scene, rng, unsaid)) for scene in scenes]
    assert [(words.shape, words.motion) for words in found] == [(scene.shape, scene.motion) for scene in scenes]
    said = [words.colour == scene.colour for words, scene in zip(found, scenes, strict=True)]
    assert all(words.colour is None for words, right in zip(found, said, strict=True) if not right)
    assert np.mean(said) == pytest.approx(1 - unsaid, abs=0.07)


def test_spinning_shapes_stand_in_the_middle() -> None:
    """So close to it that a model knows the place before it decides the angle; the middle of the frame is theirs."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        scene = sample_scene(rng, motion="spinning")
        assert np.abs(scene.offset).max() <= 1
        background, first = render(scene, keyframe_times())[0, [0, -1], [0, -1]], render(scene, np.zeros(1))[0]
        assert np.abs(first[32, 32].astype(int) - background.astype(int)).max() > 20

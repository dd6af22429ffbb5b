"""Scenes: where their shapes stand, and how they are turned."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from training.moving_shapes.clips import draw_clip
from training.moving_shapes.prompts_file import parse_prompt
from training.moving_shapes.scenes import (
    CLIP_LENGTH,
    COLOURS,
    SHAPES,
    UNNAMED,
    Scene,
    caption,
    is_held_out,
    is_visible,
    keyframe_times,
    render,
    sample_scene,
)


def test_spinning_shapes_stand_in_the_middle() -> None:
    """So close to it that a model knows the place before it decides the angle; the middle of the frame is theirs."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        scene = sample_scene(rng, motion="spinning")
        assert np.abs(scene.offset).max() <= 1
        background, first = render(scene, keyframe_times())[0, [0, -1], [0, -1]], render(scene, np.zeros(1))[0]
        assert np.abs(first[32, 32].astype(int) - background.astype(int)).max() > 20


def drawn_scenes(kind: str, count: int) -> list[Scene]:
    rng = np.random.default_rng(2)
    return [draw_clip(rng, kind)[0] for _ in range(count)]


@pytest.mark.parametrize("kind", UNNAMED)
def test_shapes_without_a_named_motion_stand_still_in_the_middle(kind: str) -> None:
    for scene in drawn_scenes(kind, 20):
        frames = render(scene, keyframe_times())
        assert (frames == frames[0]).all()
        assert np.abs(scene.offset).max() <= 1


def test_tilted_shapes_stand_at_any_angle() -> None:
    turns = np.histogram([scene.phase for scene in drawn_scenes("tilted", 200)], bins=8, range=(0, 1))[0]
    assert turns.min() > 10


def test_a_plain_shape_looks_as_one_does_that_is_said_to_stand_still() -> None:
    scenes = drawn_scenes("plain", 40)
    assert {scene.shape for scene in scenes} == set(SHAPES)
    for scene in scenes:
        said = replace(scene, motion="standing still")
        assert (render(scene, np.zeros(1)) == render(said, np.zeros(1))).all()


def test_a_tilted_shape_looks_as_a_spinning_one_does_at_some_time() -> None:
    scene = next(scene for scene in drawn_scenes("tilted", 50) if scene.shape == "star")
    spinning = replace(scene, motion="spinning", speed="quickly")  # one turn in a clip
    assert (render(scene, np.zeros(1)) == render(spinning, np.array([scene.phase * CLIP_LENGTH]))).all()


@pytest.mark.parametrize("kind", UNNAMED)
def test_shapes_without_a_named_motion_show_what_standing_still_may(kind: str) -> None:
    """Standing still is what they show: its combinations are held out of them too. Those of spinning are not."""
    scenes = drawn_scenes(kind, 600)
    shown = {(scene.colour, scene.shape) for scene in scenes}
    visible = {seen for seen in itertools.product(COLOURS, SHAPES) if is_visible(seen[1], kind)}
    assert shown == {seen for seen in visible if not is_held_out(*seen, "standing still")}
    assert {seen for seen in visible if is_held_out(*seen, "spinning")} <= shown
    rng = np.random.default_rng(3)
    for scene in scenes:
        found = parse_prompt(caption(scene, rng))
        assert (found.shape, found.colour, found.motion, found.speed) == (scene.shape, scene.colour, None, None)

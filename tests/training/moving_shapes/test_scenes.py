"""Scenes: where their shapes stand, and how they are turned."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from training.moving_shapes.clips import draw_clip
from training.moving_shapes.prompts_file import parse_prompt
from training.moving_shapes.scenes import (
    CLIP_LENGTH,
    COLOURS,
    Scene,
    caption,
    is_held_out,
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


def posed_scenes(count: int) -> list[Scene]:
    rng = np.random.default_rng(2)
    return [draw_clip(rng, "posed")[0] for _ in range(count)]


def test_posed_shapes_stand_still_at_any_angle() -> None:
    scenes = posed_scenes(200)
    for scene in scenes[:20]:
        frames = render(scene, keyframe_times())
        assert (frames == frames[0]).all()
    turns = np.histogram([scene.phase for scene in scenes], bins=8, range=(0, 1))[0]
    assert turns.min() > 10


def test_a_posed_shape_looks_as_a_spinning_one_does_at_some_time() -> None:
    scene = next(scene for scene in posed_scenes(50) if scene.shape == "star")
    spinning = replace(scene, motion="spinning", speed="quickly")  # one turn in a clip
    assert (render(scene, np.zeros(1)) == render(spinning, np.array([scene.phase * CLIP_LENGTH]))).all()


def test_posed_shapes_show_no_held_out_combination_and_their_captions_no_motion() -> None:
    """Standing still is what they show: its combinations are held out of them too. Those of spinning are not."""
    scenes = posed_scenes(600)
    shown = {(scene.colour, scene.shape) for scene in scenes}
    assert not any(is_held_out(*seen, "standing still") for seen in shown)
    turned = set(itertools.product(COLOURS, ("square", "triangle", "star")))
    assert shown == {seen for seen in turned if not is_held_out(*seen, "standing still")}
    assert {seen for seen in turned if is_held_out(*seen, "spinning")} <= shown
    rng = np.random.default_rng(3)
    for scene in scenes:
        found = parse_prompt(caption(scene, rng))
        assert (found.shape, found.colour, found.motion, found.speed) == (scene.shape, scene.colour, None, None)

"""Laws of the measurement on rendered clips: what turning, mirroring, reversing and recolouring a video must change."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.moving_shapes.measure import HUES, UNKNOWN, measure, name_colour
from training.moving_shapes.scenes import (
    COLOURS,
    MOTIONS,
    SHAPES,
    Scene,
    is_visible,
    keyframe_times,
    render,
    sample_scene,
)
from training.moving_shapes.track import fit_background, track

Video = NDArray[np.uint8]
MIRRORED = {"moving left": "moving right", "moving right": "moving left"}
REVERSED = {
    **MIRRORED,
    "moving up": "moving down",
    "moving down": "moving up",
    "growing": "shrinking",
    "shrinking": "growing",
}
TURNED = {  # a quarter turn anticlockwise
    "moving left": "moving down",
    "moving right": "moving up",
    "moving up": "moving left",
    "moving down": "moving right",
    "bouncing left and right": "bouncing up and down",
    "bouncing up and down": "bouncing left and right",
}


def scene_of(motion: str, seed: int = 0, **fixed: str) -> Scene:
    fixed.setdefault("shape", "star")
    return sample_scene(np.random.default_rng(seed), None, motion=motion, **fixed)


def clip(scene: Scene, num_frames: int = 16, size: int = 64) -> Video:
    return render(scene, np.linspace(0, keyframe_times()[-1], num_frames), size)


def words(video: Video) -> tuple[str, str, str, str | None, str]:
    found = measure(video)
    return found.shape, found.colour, found.motion, found.speed, found.size


def asked(scene: Scene) -> tuple[str, str, str, str | None, str]:
    speed = None if scene.motion == "standing still" else scene.speed
    return scene.shape, scene.colour, scene.motion, speed, scene.size


@pytest.mark.parametrize("motion", MOTIONS)
def test_rendered_clips_are_measured_as_what_they_are(motion: str) -> None:
    for index, shape in enumerate(SHAPES):
        if is_visible(shape, motion):
            for seed in (index, index + 10):
                scene = scene_of(motion, seed, shape=shape)
                assert words(clip(scene)) == asked(scene)


@pytest.mark.parametrize("colour", COLOURS)
def test_every_colour_on_every_background(colour: str) -> None:
    for background in ("black", "grey", "gradient"):
        scene = scene_of("moving up", colour=colour, background=background)
        assert measure(clip(scene)).colour == colour


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_mirror_swaps_left_and_right_alone(motion: str) -> None:
    scene = scene_of(motion, 3)
    before, after = measure(clip(scene)), measure(np.ascontiguousarray(clip(scene)[:, :, ::-1]))
    assert after.motion == MIRRORED.get(motion, motion)
    assert (after.shape, after.colour, after.size, after.speed) == (
        before.shape,
        before.colour,
        before.size,
        before.speed,
    )


@pytest.mark.parametrize("motion", MOTIONS)
def test_reversed_time_turns_a_motion_into_its_opposite(motion: str) -> None:
    assert measure(clip(scene_of(motion, 4))[::-1]).motion == REVERSED.get(motion, motion)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_quarter_turn_turns_the_direction(motion: str) -> None:
    video = np.ascontiguousarray(np.rot90(clip(scene_of(motion, 5, shape="square")), axes=(1, 2)))
    found = measure(video)
    assert (found.motion, found.shape) == (TURNED.get(motion, motion), "square")


@pytest.mark.parametrize(("order", "expected"), [((1, 2, 0), "blue"), ((1, 0, 2), "green"), ((0, 1, 2), "red")])
def test_swapped_channels_change_the_colour_alone(order: tuple[int, ...], expected: str) -> None:
    scene = scene_of("circling", 6, colour="red", background="grey")
    assert words(clip(scene)[..., list(order)]) == (scene.shape, expected, "circling", scene.speed, scene.size)


@pytest.mark.parametrize("motion", MOTIONS)
def test_more_frames_and_more_pixels_show_the_same(motion: str) -> None:
    scene = scene_of(motion, 7)
    assert words(clip(scene, num_frames=61)) == asked(scene)
    assert words(clip(scene, size=128)) == asked(scene)


def test_every_shape_survives_blur_and_noise() -> None:
    rng = np.random.default_rng(0)
    for shape, size in itertools.product(SHAPES, ("small", "large")):
        scene = scene_of("moving left", 8, shape=shape, size=size)
        blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.0) for frame in clip(scene)])
        noisy = np.clip(blurred + rng.normal(0, 8, blurred.shape), 0, 255).astype(np.uint8)
        assert words(noisy) == asked(scene)


def test_a_wobble_is_no_spin() -> None:
    square = scene_of("standing still", shape="square", background="black")
    frame = clip(square, 1)[0]
    centre = tuple(float(v) for v in np.array(square.offset) + 32)
    turns = [cv2.getRotationMatrix2D(centre, 14.0 * (-1) ** i, 1.0) for i in range(16)]
    video = np.stack([cv2.warpAffine(frame, turn, (64, 64), flags=cv2.INTER_CUBIC) for turn in turns])
    assert measure(video).motion == "standing still"


def test_a_spinning_circle_stands_still() -> None:
    found = measure(clip(scene_of("standing still", shape="circle")))
    assert (found.shape, found.motion, found.speed) == ("circle", "standing still", None)


def test_a_jumping_shape_has_no_motion_word() -> None:
    order = [0, 9, 3, 14, 6, 1, 11, 4, 15, 7, 2, 12, 5, 10, 8, 13]
    scene = scene_of("circling", shape="square")
    assert measure(clip(scene)[order]).motion in (UNKNOWN, "bouncing left and right", "bouncing up and down")
    diagonal = np.stack([np.roll(clip(scene_of("standing still"))[0], (i - 8, i - 8), (0, 1)) for i in range(16)])
    assert measure(diagonal).motion == UNKNOWN


def test_nothing_to_see_is_unknown() -> None:
    empty = np.full((16, 64, 64, 3), 90, np.uint8)
    assert words(empty) == (UNKNOWN, UNKNOWN, UNKNOWN, None, UNKNOWN)
    some = clip(scene_of("moving left"))
    some[4:] = some[4:, :1, :1]
    assert measure(some).shape == UNKNOWN
    noise = np.random.default_rng(0).integers(0, 255, empty.shape).astype(np.uint8)
    assert measure(noise).shape == UNKNOWN


def test_a_bar_is_none_of_the_shapes() -> None:
    video = np.zeros((16, 64, 64, 3), np.uint8)
    video[:, 30:34, 12:52] = (230, 30, 30)
    found = measure(video)
    assert (found.shape, found.colour) == (UNKNOWN, "red")


def test_every_hue_has_its_name_and_dark_has_none() -> None:
    for name, hue in HUES.items():
        for value in (130, 255):
            hsv = np.array([[[hue / 2, 220, value]]], np.uint8)
            assert name_colour(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0])[0] == name
    assert name_colour(np.array([40, 10, 10]))[0] == UNKNOWN
    assert name_colour(np.array([100, 100, 104]))[0] == UNKNOWN
    assert name_colour(np.array([240, 235, 250]))[0] == "white"


def test_the_track_is_where_the_shape_is() -> None:
    scene = scene_of("moving right", shape="circle", size="small", speed="slowly", background="gradient")
    seen = track(clip(scene))
    expected = np.linspace(-12, 12, 16) + scene.offset[0] + 32
    assert seen.detected.all()
    np.testing.assert_allclose(seen.centre[:, 0], expected, atol=0.2)
    np.testing.assert_allclose(seen.centre[:, 1], scene.offset[1] + 32, atol=0.2)
    np.testing.assert_allclose(seen.radius, 8.0, atol=0.2)


def test_the_background_is_fitted_behind_the_shape() -> None:
    ramp = np.linspace(30, 90, 64, dtype=np.float32)
    picture = np.broadcast_to(ramp[:, None, None], (64, 64, 3)).copy()
    covered = picture.copy()
    covered[14:44, 20:50] = (250, 230, 20)
    np.testing.assert_allclose(fit_background(covered), picture, atol=1.0)


@pytest.mark.parametrize("shape", [(16, 64, 64), (64, 64, 3), (0, 64, 64, 3), (16, 64, 64, 4)])
def test_another_layout_is_refused_in_words(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"video must be uint8 \(T, H, W, 3\)"):
        measure(np.zeros(shape, np.uint8))

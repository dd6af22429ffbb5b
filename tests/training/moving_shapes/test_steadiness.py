"""Laws of what flickers: a drawn clip is steady, and each fault moves its own figure by as much as it was put in."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.moving_shapes.scenes import BACKGROUNDS, MOTIONS, SHAPES, is_visible, keyframe_times, render, sample_scene
from training.moving_shapes.steadiness import background, circle, shape_share, steadiness, summary
from training.moving_shapes.track import track

Video = NDArray[np.uint8]


def drawn(motion: str, shape: str, background: str = "gradient", seed: int = 0, size: int = 64) -> Video:
    scene = sample_scene(np.random.default_rng(seed), None, motion=motion, shape=shape, background=background)
    return render(scene, keyframe_times(), size)


def figures(video: Video, shape: str, motion: str) -> dict[str, float]:
    return steadiness(video, track(video), shape, motion)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_drawn_clip_is_steady(motion: str) -> None:
    """Nothing of the background changes, also where shapes touch the border; every frame has its shape."""
    rows = []
    for index, shape in enumerate(SHAPES):
        if is_visible(shape, motion):
            rows.append((motion, figures(drawn(motion, shape, BACKGROUNDS[index % 3], index), shape, motion)))
    found = summary(rows)
    assert [value for name, value in found.items() if name.startswith("background")] == [0, 0, 0, 0]
    assert found["frames_of_shape"] == 1
    assert found.get("circle_size", 0) < 0.005
    assert found.get("circle_outline", 0) < 0.005


def test_a_levels_steps_and_wander_are_those_that_were_put_in() -> None:
    """One channel's level in some frames; a shape over the border does not hide it, nor the picture's size."""
    added = np.array([0, 0, 3, 3, 4, 4, 4, 9, 9, 9, 9, 9, 9, 9, 9, 2])
    for size in (64, 96):
        video = drawn("moving left", "star", seed=3, size=size)
        video[..., 1] += added.astype(np.uint8)[:, None, None]
        found = background(video)
        assert (found.step, found.worst_step, found.wander) == (0, 7, 9)
        assert background(video[::-1]) == found


def test_a_shape_that_changes_is_counted_frame_by_frame() -> None:
    """Of sixteen frames four show another shape and four none, which the video's one word would hide."""
    video = drawn("spinning", "triangle", "black")
    video[3:7] = drawn("standing still", "square", "black")[3:7]
    assert shape_share(track(video), "triangle") == 12 / 16
    video[12:] = 5
    assert shape_share(track(video), "triangle") == 8 / 16
    assert shape_share(track(video), "square") == 4 / 16


def test_a_circles_size_and_outline_are_told_apart() -> None:
    """Circles that breathe by 5 % have that size variation and a round outline; long ones the other way round."""
    breathing = [(12 + 0.6 * (-1) ** frame,) * 2 for frame in range(16)]
    long = [(12.6, 11.4)] * 16
    for axes, size, outline in ((breathing, 0.05, 0.0), (long, 0.0, 0.05 / np.sqrt(2))):
        video = np.stack([ellipse(*pair) for pair in axes])
        found = circle(track(video))
        assert found is not None
        assert found.size == pytest.approx(size, abs=0.004)
        assert found.outline == pytest.approx(outline, abs=0.006)


def ellipse(across: float, along: float) -> Video:
    large = np.full((512, 512, 3), 5, np.uint8)
    cv2.ellipse(large, (256, 256), (round(8 * across), round(8 * along)), 0, 0, 360, (230, 30, 30), -1)
    return np.asarray(cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA), np.uint8)


def test_only_what_a_prompt_asks_for_is_measured() -> None:
    """A growing circle has no figures of a circle's size, a prompt without a shape none of shapes."""
    video = drawn("growing", "circle")
    assert figures(video, "circle", "growing").keys() == {"step", "worst_step", "wander", "frames_of_shape"}
    assert steadiness(video, track(video), None, None).keys() == {"step", "worst_step", "wander"}
    assert summary([("growing", figures(video, "circle", "growing"))]).keys() == {
        "background_step",
        "background_worst_step",
        "background_wander",
        "background_worst_wander",
        "frames_of_shape",
    }

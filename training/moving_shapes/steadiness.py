"""What a viewer sees flicker in a video of one moving shape: background level, outline, size; from its pixels alone.

Of a clip that is drawn as scenes are (`scenes.render`) the background's figures are 0, every frame shows its shape, and
a circle's figures are what the tracking of outlines costs: under half a percent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .measure import frame_shapes
from .track import Array, Track

BORDER = 32  # a border's width is the picture's side over this
RESIZING = ("growing", "shrinking")


@dataclass(frozen=True)
class Background:
    """How the level of a video's border goes, in levels of 8 bits, of the channel that changes most."""

    step: float  # between neighbouring frames: their median
    worst_step: float
    wander: float  # from the lowest to the highest frame


def background(video: NDArray[np.uint8]) -> Background:
    """Measure an RGB video uint8 (T, H, W, 3) of at least two frames.

    A frame's level is the median, over the border's pixels, of the difference from the middle frame in time: what is
    drawn in the background, and a shape that touches the border, do not count.
    """
    levels = border_levels(video)
    steps = np.abs(np.diff(levels, axis=0)).max(axis=1)
    return Background(float(np.median(steps)), float(steps.max()), float(np.ptp(levels, axis=0).max()))


def border_levels(video: NDArray[np.uint8]) -> Array:
    """Levels (T, 3) of the border's channels, relative to the pixels' medians over time."""
    height, width = video.shape[1:3]
    inner = np.zeros((height, width), bool)
    rows, columns = max(1, height // BORDER), max(1, width // BORDER)
    inner[rows:-rows, columns:-columns] = True
    pixels = video[:, ~inner].astype(np.float32)
    return np.asarray(np.median(pixels - np.median(pixels, axis=0), axis=1))


def shape_share(seen: Track, shape: str) -> float:
    """Share of the frames that show `shape`; those that the picture's border cuts are not counted, an empty one is."""
    named = frame_shapes(seen)
    counted = seen.uncut | ~seen.detected
    return float(np.mean([named[i] == shape for i in np.flatnonzero(counted)])) if counted.any() else 0.0


@dataclass(frozen=True)
class Circle:
    """How a circle's outline varies, as shares of its mean radius."""

    size: float  # standard deviation over the frames of the radius of the circle of equal area
    outline: float  # root mean square distance of the frames' outlines from circles


def circle(seen: Track) -> Circle | None:
    """Measure a circle that keeps its size; None where fewer than three frames show all of it."""
    if seen.uncut.sum() < 3:
        return None
    radius = seen.radius[seen.uncut]
    waves = np.square(np.abs(seen.profile[seen.uncut][:, 1:])).sum(axis=1) / 2
    return Circle(float(radius.std() / radius.mean()), float(np.sqrt(waves.mean())))


def steadiness(video: NDArray[np.uint8], seen: Track, shape: str | None, motion: str | None) -> dict[str, float]:
    """The figures of a video of a prompt that asks for `shape` and `motion` (None: for none), by name."""
    level = background(video)
    figures = {"step": level.step, "worst_step": level.worst_step, "wander": level.wander}
    if shape is not None:
        figures["frames_of_shape"] = shape_share(seen, shape)
    outline = circle(seen) if shape == "circle" and motion not in RESIZING else None
    if outline is not None:
        figures |= {"circle_size": outline.size, "circle_outline": outline.outline}
    return figures


def summary(rows: list[tuple[str | None, dict[str, float]]]) -> dict[str, float]:
    """Figures of many videos from (motion asked for, figures of `steadiness`); what no video has is left out.

    In levels of 8 bits `background_step` (the median video's) and, of the worst video, `background_worst_step`; then
    `background_wander` and `background_worst_wander`. Shares of the frames that show the shape asked for,
    `frames_of_shape` and, of videos of spinning shapes, `frames_of_shape_spinning`. Medians of `circle_size` and
    `circle_outline`, and the worst.
    """
    found = [figures for _, figures in rows]
    spinning = [figures for motion, figures in rows if motion == "spinning"]
    wanted: dict[str, tuple[list[dict[str, float]], str, Callable[[list[float]], Any]]] = {
        "background_step": (found, "step", np.median),
        "background_worst_step": (found, "worst_step", np.max),
        "background_wander": (found, "wander", np.median),
        "background_worst_wander": (found, "wander", np.max),
        "frames_of_shape": (found, "frames_of_shape", np.mean),
        "frames_of_shape_spinning": (spinning, "frames_of_shape", np.mean),
        "circle_size": (found, "circle_size", np.median),
        "circle_worst_size": (found, "circle_size", np.max),
        "circle_outline": (found, "circle_outline", np.median),
    }
    numbers = {name: [row[key] for row in group if key in row] for name, (group, key, _) in wanted.items()}
    return {name: float(wanted[name][2](values)) for name, values in numbers.items() if values}

"""What a video of one moving shape shows: shape, colour, size, motion and speed, measured from its pixels alone.

`track.track` follows the shape; here words are found for its track. Thresholds lie about half way between "nothing"
and the slowest motion that a prompt can ask for, so an indifferent video gets no motion for free. Lengths are
pixels of a 64 pixels wide picture, times are shares of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from .track import Array, Track, track

UNKNOWN = "unknown"

HUES = {"red": 0.0, "orange": 32.0, "yellow": 55.0, "green": 127.0, "cyan": 183.0, "blue": 231.0, "purple": 280.0}
WHITE_SATURATION = 0.2
MIN_VALUE = 0.3  # darker than this has no colour

FOLDS = {"triangle": 3, "square": 4, "star": 5}
HARMONIC = {"triangle": 0.275, "square": 0.137, "star": 0.31}  # of the ideal outline's radial profile
STAR_SOLIDITY = 0.88  # a star has less (ideally 0.6)
FULL_SOLIDITY = 0.8  # square and triangle have more (ideally 1)

LARGE_RADIUS = 9.3
MIN_TRAVEL = 11.0  # pixels, end to end
MIN_SWING = 12.0  # pixels, of a bounce or a circle
MIN_GROWTH = 0.25  # natural logarithm of the last over the first radius
MIN_TURN = 90.0  # degrees
MAX_CYCLES = 2.75  # in a clip; more is jitter
QUICK = {"travel": 29.0, "growth": 0.75, "turn": 270.0, "cycles": 1.5}
MIN_SEEN = 0.75  # share of the frames that must show a shape


@dataclass(frozen=True)
class Measurement:
    """The words that fit a video; UNKNOWN where none does, speed None for what stands still."""

    shape: str
    colour: str
    motion: str
    speed: str | None
    size: str
    scores: dict[str, float] = field(default_factory=dict)  # the figures that the words rest on


def measure(video: NDArray[np.uint8]) -> Measurement:
    """Measure an RGB video uint8 (T, H, W, 3) of any size and content. Raises ValueError for another layout."""
    return measure_track(track(video))


def measure_track(seen: Track) -> Measurement:
    """`measure` of a video that was tracked already."""
    share = float(seen.detected.mean())
    if share < MIN_SEEN:
        return Measurement(UNKNOWN, UNKNOWN, UNKNOWN, None, UNKNOWN, {"seen": share})
    shape, shape_scores = name_shape(seen)
    colour, colour_scores = name_colour(np.median(seen.colour[seen.detected], axis=0))
    motion, speed, motion_scores = name_motion(seen, shape)
    radius = float(np.median(seen.radius[_best(seen)]))
    scores = {"seen": share, "radius": radius, **shape_scores, **colour_scores, **motion_scores}
    return Measurement(shape, colour, motion, speed, "large" if radius > LARGE_RADIUS else "small", scores)


def _best(seen: Track) -> NDArray[np.bool_]:
    """Frames to look at outlines in: not cut by the border, where there are enough of those."""
    return seen.uncut if seen.uncut.sum() >= 3 else seen.detected


def name_colour(rgb: Array) -> tuple[str, dict[str, float]]:
    """The nearest hue's name for an RGB colour (3,) of 0…255; white where it has little saturation."""
    pixel = (np.asarray(rgb, np.float32).reshape(1, 1, 3) / 255.0).clip(0, 1)
    hue, saturation, value = (float(v) for v in cv2.cvtColor(pixel, cv2.COLOR_RGB2HSV)[0, 0])
    scores = {"hue": hue, "saturation": saturation, "value": value}
    if value < MIN_VALUE:
        return UNKNOWN, scores
    if saturation < WHITE_SATURATION:
        return "white" if value > 0.6 else UNKNOWN, scores
    distance = {name: abs((hue - centre + 180.0) % 360.0 - 180.0) for name, centre in HUES.items()}
    return min(distance, key=lambda name: distance[name]), scores


def name_shape(seen: Track) -> tuple[str, dict[str, float]]:
    """Vote of the frames' outlines by the 3-, 4- and 5-fold waves of their radius, which no turn or size changes."""
    best = _best(seen)
    best = best & (seen.radius >= 0.6 * seen.radius[best].max())
    votes: dict[str, float] = {}
    for profile, solidity, radius in zip(seen.profile[best], seen.solidity[best], seen.radius[best], strict=True):
        name = _frame_shape(np.abs(profile), float(solidity))
        votes[name] = votes.get(name, 0.0) + float(radius) ** 2
    winner = max(votes, key=lambda name: votes[name])
    waves = np.median(np.abs(seen.profile[best]), axis=0)
    scores = {"shape_share": votes[winner] / sum(votes.values()), "solidity": float(np.median(seen.solidity[best]))}
    return winner, scores | {f"wave_{fold}": float(waves[fold]) for fold in (2, 3, 4, 5)}


def frame_shapes(seen: Track) -> list[str]:
    """The shape that each frame shows for itself; UNKNOWN where none fits or is seen."""
    return [
        _frame_shape(np.abs(profile), float(solidity)) if found else UNKNOWN
        for profile, solidity, found in zip(seen.profile, seen.solidity, seen.detected, strict=True)
    ]


def _frame_shape(waves: Array, solidity: float) -> str:
    strength = {name: float(waves[fold]) / HARMONIC[name] for name, fold in FOLDS.items()}
    if waves[2] > 0.25:
        return UNKNOWN  # twice as long as wide
    best = max(strength, key=lambda name: strength[name])
    if strength[best] < 0.5:
        return "circle" if solidity > 0.9 else UNKNOWN
    fits = solidity < STAR_SOLIDITY if best == "star" else solidity > FULL_SOLIDITY
    return best if fits else UNKNOWN


def name_motion(seen: Track, shape: str) -> tuple[str, str | None, dict[str, float]]:
    """The strongest of travel, change of size and turn, each over the least that the slowest prompt asks for."""
    time = np.linspace(0.0, 1.0, len(seen.detected))
    path, when = seen.centre[seen.detected], time[seen.detected]
    swing = np.ptp(path, axis=0)
    best = _best(seen)
    growth, growth_fit = _line(time[best], np.log(seen.radius[best]))
    turn, turn_fit = _turn(time[best], seen.profile[best], shape)
    scores = {"swing_x": float(swing[0]), "swing_y": float(swing[1]), "growth": growth, "turn": turn}
    strength = {
        "travel": float(swing.max()) / MIN_SWING,
        "growth": abs(growth) / MIN_GROWTH,
        "turn": abs(turn) / MIN_TURN,
    }
    kind = max(strength, key=lambda name: strength[name])
    if strength[kind] < 1.0:
        return "standing still", None, scores
    if kind == "travel":
        motion, speed, more = _name_path(when, path)
        return motion, speed, scores | more
    if kind == "growth":
        name, extent, fit = "growing" if growth > 0 else "shrinking", abs(growth), growth_fit
    else:
        name, extent, fit = "spinning", abs(turn), turn_fit
    return name if fit > 0.7 else UNKNOWN, _speed(extent, QUICK[kind]), scores | {"fit": fit}


def _speed(extent: float, quick: float) -> str:
    return "quickly" if extent > quick else "slowly"


def _line(time: Array, values: Array) -> tuple[float, float]:
    """Change of the best line through `values` over the whole clip, and the share of variance that it explains."""
    if len(time) < 3:
        return 0.0, 0.0
    slope, start = np.polyfit(time, values, 1)
    variance = float(np.var(values))
    return float(slope), 1.0 - float(np.var(values - slope * time - start)) / variance if variance > 1e-12 else 0.0


def _turn(time: Array, profile: NDArray[np.complexfloating], shape: str) -> tuple[float, float]:
    """Degrees that the outline's k-fold wave turns in the clip, and how steadily. A wobble goes back and forth."""
    if shape == "circle":
        return 0.0, 0.0
    waves = np.median(np.abs(profile), axis=0)
    strongest = max(FOLDS, key=lambda name: waves[FOLDS[name]] / HARMONIC[name])
    fold = FOLDS[strongest if shape == UNKNOWN else shape]
    angle = np.degrees(np.unwrap(np.angle(profile[:, fold]))) / -fold
    return _line(time, angle)


def _name_path(time: Array, path: Array) -> tuple[str, str | None, dict[str, float]]:
    """The word for a path of centres (T, 2) that does move."""
    swing = np.ptp(path, axis=0)
    axis = int(np.argmax(swing))
    net, fit = _line(time, path[:, axis])
    turns, roundness, steadiness = _winding(path)
    scores = {"net": net, "fit": fit, "winding": turns, "roundness": roundness, "steadiness": steadiness}
    if swing.min() > 0.5 * swing.max():
        if abs(turns) > 0.6 and roundness > 0.6 and steadiness > 0.8:
            return "circling", _speed(abs(turns), QUICK["cycles"]), scores
        return UNKNOWN, None, scores
    if fit > 0.8 and abs(net) > MIN_TRAVEL:
        names = (("moving left", "moving right"), ("moving up", "moving down"))[axis]
        return names[net > 0], _speed(abs(net), QUICK["travel"]), scores
    there_and_back = float(np.abs(np.diff(path[:, axis])).sum() / swing[axis] / 2)
    scores["cycles"] = there_and_back
    if fit < 0.5 and 0.75 < there_and_back < MAX_CYCLES:
        name = ("bouncing left and right", "bouncing up and down")[axis]
        return name, _speed(there_and_back, QUICK["cycles"]), scores
    return UNKNOWN, None, scores


def _winding(path: Array) -> tuple[float, float, float]:
    """Turns of the path (T, 2) about its middle, its nearest over its farthest distance from there (5 % cut), and the
    share of its steps that go the way round that the whole goes."""
    spokes = path - (path.max(axis=0) + path.min(axis=0)) / 2
    steps = np.diff(np.unwrap(np.arctan2(spokes[:, 1], spokes[:, 0])))
    near, far = np.percentile(np.hypot(spokes[:, 0], spokes[:, 1]), [5, 95])
    turns = float(steps.sum()) / (2 * np.pi)
    return turns, float(near / max(far, 1e-6)), float((steps * np.sign(turns) > 0).mean())

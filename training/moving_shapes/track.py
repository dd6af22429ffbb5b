"""From pixels to a track: where the foreground shape of every frame is, how large, which colour, which outline.

Knows nothing of how the video was made. The background is a smooth surface fitted to the pixels that are not the
shape; the shape is the largest connected area that differs from it. Lengths are pixels of a 64 pixels wide picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 64
MIN_CONTRAST = 24.0  # RGB distance below which nothing stands out from the background
MIN_AREA = 10.0  # square pixels; smaller spots are noise
OVERSAMPLING = 4
ANGLES = 64
HARMONICS = 7  # of the outline's radial profile: 0…6

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Track:
    """What T frames show; entries of frames without a shape (`detected` False) are NaN."""

    detected: NDArray[np.bool_]  # (T,)
    uncut: NDArray[np.bool_]  # (T,) detected and not cut by the frame's border
    centre: Array  # (T, 2) x, y
    radius: Array  # (T,) of the circle of equal area
    colour: Array  # (T, 3) RGB 0…255
    profile: NDArray[np.complexfloating]  # (T, HARMONICS) Fourier terms of the outline's radius / mean radius
    solidity: Array  # (T,) area / area of the convex hull


@dataclass(frozen=True)
class _Shape:
    uncut: bool
    centre: tuple[float, float]
    radius: float
    colour: Array
    profile: NDArray[np.complexfloating]
    solidity: float


def track(video: NDArray[np.uint8]) -> Track:
    """Follow the shape of an RGB video uint8 (T, H, W, 3). Raises ValueError for another layout."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or 0 in video.shape:
        raise ValueError(f"video must be uint8 (T, H, W, 3) with no empty side; got {video.dtype} {video.shape}")
    frames = np.stack([_to_canvas(frame) for frame in video]).astype(np.float32)
    background = fit_background(np.median(frames, axis=0))
    difference = frames - background
    distance = _length(difference)
    peak = float(np.percentile(distance.reshape(len(frames), -1).max(axis=1), 75))
    shapes = [_find(frame, background, d, peak) for frame, d in zip(frames, distance, strict=True)]
    return _collect(shapes)


def _to_canvas(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if frame.shape[:2] == (CANVAS, CANVAS):
        return frame
    return np.asarray(cv2.resize(frame, (CANVAS, CANVAS), interpolation=cv2.INTER_AREA), np.uint8)


@lru_cache(maxsize=4)
def _basis(height: int, width: int) -> Array:
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=-1).reshape(-1, 6).astype(np.float32)


def fit_background(picture: Array, rounds: int = 8) -> Array:
    """A quadratic surface per channel through the background of `picture` (H, W, 3), whatever stands before it.

    The first fit takes the border, where the shape rarely is; every further one the pixels near the last surface.
    Every second row and column is enough.
    """
    height, width = picture.shape[:2]
    coarse = picture[::2, ::2].astype(np.float32)
    pixels, basis = coarse.reshape(-1, 3), _basis(height, width).reshape(height, width, 6)[::2, ::2].reshape(-1, 6)
    border = np.ones(coarse.shape[:2], bool)
    border[2:-2, 2:-2] = False
    used = border.reshape(-1)
    middle = np.median(pixels[used], axis=0)
    used = used & (_length(pixels - middle) < 60)
    weights = np.concatenate([middle[None], np.zeros((5, 3), np.float32)])
    for index in range(rounds):
        if used.sum() < 20:
            break
        columns = 3 if index < 3 else 6  # a plane until the shape is out of the fit
        a = basis[used, :columns]
        weights = np.linalg.solve(a.T @ a + 1e-3 * np.eye(columns, dtype=np.float32), a.T @ pixels[used])
        residual = _length(pixels - basis[:, :columns] @ weights)
        used = residual < np.clip(4.5 * float(np.median(residual[used])), 5, 25)
    return (_basis(height, width)[:, : len(weights)] @ weights).reshape(picture.shape).astype(np.float32)


def _length(vectors: Array) -> Array:
    return np.sqrt((vectors * vectors).sum(-1))


def _find(frame: Array, background: Array, distance: Array, peak: float) -> _Shape | None:
    """The largest foreground area of one frame (H, W, 3); None where there is none."""
    highest = min(peak, float(distance.max()))
    if highest < max(MIN_CONTRAST, 0.35 * peak):
        return None
    area, box = _largest_area(distance > 0.45 * highest)
    if area is None:
        return None
    frame, distance = frame[box], distance[box]
    core = area & (distance > 0.8 * highest)
    colour = np.median(frame[core if core.sum() >= 4 else area], axis=0)
    toward = colour - background[box]
    cover = ((frame - background[box]) * toward).sum(-1) / np.maximum((toward * toward).sum(-1), 1.0)
    near = cv2.dilate(area.astype(np.uint8), np.ones((5, 5), np.uint8))
    cover = np.clip(cover, 0.0, 1.0).astype(np.float32) * near
    if cover.sum() < MIN_AREA:
        return None
    return _describe(cover, colour, box)


def _largest_area(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_] | None, tuple[slice, slice]]:
    """The largest connected area, cut out by its bounding box and two pixels around it, and where that is."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        return None, (slice(None), slice(None))
    best = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y, width, height = (int(v) for v in stats[best, :4])
    box = slice(max(y - 2, 0), y + height + 2), slice(max(x - 2, 0), x + width + 2)
    return labels[box] == best, box


def _describe(cover: Array, colour: Array, box: tuple[slice, slice]) -> _Shape | None:
    """Centre, area and outline of one shape from the share that it covers of every pixel in `box`."""
    total, rows, columns = float(cover.sum()), cover.sum(1), cover.sum(0)
    top, left = box[0].start, box[1].start
    ys, xs = np.arange(len(rows)) + top + 0.5, np.arange(len(columns)) + left + 0.5
    centre = float(columns @ xs / total), float(rows @ ys / total)
    cut = (top == 0 and cover[0].max() > 0.5) or (left == 0 and cover[:, 0].max() > 0.5)
    cut = cut or (top + len(rows) == CANVAS and cover[-1].max() > 0.5)
    cut = cut or (left + len(columns) == CANVAS and cover[:, -1].max() > 0.5)
    outline = _outline(cover)
    if outline is None:
        return None
    hull = float(cv2.contourArea(cv2.convexHull(outline)))
    solidity = float(cv2.contourArea(outline)) / max(hull, 1e-6)
    return _Shape(not cut, centre, float(np.sqrt(total / np.pi)), colour, _profile(outline), solidity)


def _outline(cover: Array) -> Array | None:
    """The contour of half cover (K, 2), in pixels, found on an enlarged picture."""
    padded = cv2.copyMakeBorder(cover, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0.0)
    size = (padded.shape[1] * OVERSAMPLING, padded.shape[0] * OVERSAMPLING)
    large = cv2.resize(padded, size, interpolation=cv2.INTER_CUBIC) > 0.5
    contours, _ = cv2.findContours(large.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    longest = max(contours, key=cv2.contourArea)
    if cv2.contourArea(longest) < MIN_AREA * OVERSAMPLING**2 / 2:
        return None
    return longest.reshape(-1, 2).astype(np.float32) / OVERSAMPLING


def _profile(outline: Array) -> NDArray[np.complexfloating]:
    """Fourier terms 0…6 of the radius seen from the outline's centre of area, over its mean."""
    moments = cv2.moments(outline)
    delta = outline - np.array([moments["m10"], moments["m01"]]) / max(moments["m00"], 1e-6)
    angle, radius = np.arctan2(delta[:, 1], delta[:, 0]), np.hypot(delta[:, 0], delta[:, 1])
    grid = np.linspace(-np.pi, np.pi, ANGLES, endpoint=False)
    terms = np.fft.rfft(np.interp(grid, angle, radius, period=2 * np.pi))[:HARMONICS]
    return 2 * terms / max(abs(terms[0]), 1e-6)


def _collect(shapes: list[_Shape | None]) -> Track:
    return Track(
        detected=np.array([s is not None for s in shapes]),
        uncut=np.array([s is not None and s.uncut for s in shapes]),
        centre=np.array([s.centre if s else (np.nan, np.nan) for s in shapes]),
        radius=np.array([s.radius if s else np.nan for s in shapes]),
        colour=np.array([s.colour if s else (np.nan,) * 3 for s in shapes]),
        profile=np.array([s.profile if s else (np.nan,) * HARMONICS for s in shapes]),
        solidity=np.array([s.solidity if s else np.nan for s in shapes]),
    )

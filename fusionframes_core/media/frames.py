"""Frames as arrays, uint8 RGB (T, H, W, 3), and as pixels, (3, T, H, W) in [−1, 1]."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

COVER, OFFICIAL = "cover", "official"
IMAGE_FITS = (COVER, OFFICIAL)
"""How a first image is fitted into a video."""


def fit_image(pixels: Tensor, size: tuple[int, int], fit: str = COVER) -> Tensor:
    """Pixels (B, 3, H, W), or (B, 4, H, W) with alpha, scaled, and of that the centre (B, 3, height, width).

    "cover" enlarges small ones too and ignores alpha. "official" is 1.1's code: an image smaller than the video keeps
    its size, with black around it, and colours are scaled by their alpha, which is then dropped. Raises ValueError for
    another name.
    """
    if fit not in IMAGE_FITS:
        raise ValueError(f"image_fit must be one of {', '.join(IMAGE_FITS)}; got {fit!r}")
    official, (height, width) = fit == OFFICIAL, size
    factor = min(pixels.shape[-1] / width, pixels.shape[-2] / height)
    factor = max(factor, 1.0) if official else factor
    scaled = (round(pixels.shape[-2] / factor), round(pixels.shape[-1] / factor))
    if not official:
        scaled = (max(scaled[0], height), max(scaled[1], width))
    if scaled != tuple(pixels.shape[-2:]):
        pixels = _resize_by_alpha(pixels, scaled) if official and pixels.shape[1] == 4 else _resize(pixels, scaled)
    # PIL's crop rounds a half to the even number, and Python's round does.
    top, left = round((scaled[0] - height) / 2), round((scaled[1] - width) / 2)
    return _crop(pixels[:, :3], top, left, size)


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(-1, 1)


def _resize_by_alpha(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """As PIL resizes RGBA: colours times alpha, and back."""
    colours, alpha = (pixels[:, :3] + 1) / 2, (pixels[:, 3:] + 1) / 2
    alphas = (_resize(alpha * 2 - 1, size) + 1) / 2
    weighted = (_resize(colours * alpha * 2 - 1, size) + 1) / 2
    return torch.cat([(weighted / alphas.clamp(min=1e-6)).clamp(0, 1) * (alphas > 0), alphas], dim=1) * 2 - 1


def _crop(pixels: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """The window of `size` (height, width) at (top, left); black, which is −1, where it is outside."""
    height, width = pixels.shape[-2:]
    borders = (-left, left + size[1] - width, -top, top + size[0] - height)
    return functional.pad(pixels, borders, value=-1.0)  # a negative border cuts


Frames = NDArray[np.uint8]


def to_uint8(pixels: Tensor) -> Frames:
    """Pixels (3, T, H, W) in [−1, 1] to frames (T, H, W, 3)."""
    scaled = (pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5
    return scaled.round().to(torch.uint8).permute(1, 2, 3, 0).contiguous().numpy()


def to_pixels(frames: Frames) -> Tensor:
    """Frames (T, H, W, 3) to pixels (3, T, H, W) in [−1, 1]; the inverse of `to_uint8`."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2).float() / 127.5 - 1


def enlarge(frames: Frames, scale: int) -> Frames:
    """Every pixel becomes scale × scale pixels, so that a tiny video can be watched."""
    return frames.repeat(scale, axis=1).repeat(scale, axis=2) if scale > 1 else frames


def contact_sheet(frames: Frames, columns: int | None = None, gap: int = 2) -> Frames:
    """All frames on one picture (H', W', 3), row by row; `columns` defaults to about a square."""
    frames = check_frames(frames)
    count, height, width, _ = frames.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(frames):
        top, left = (gap + index // columns * (height + gap), gap + index % columns * (width + gap))
        sheet[top : top + height, left : left + width] = picture
    return sheet


def check_frames(frames: Frames) -> Frames:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 (T, H, W, 3), at least one; got {frames.dtype} {frames.shape}")
    return np.ascontiguousarray(frames)


def batches(count: int, size: int) -> Iterable[slice]:
    """Slices of at most `size` that cover range(count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))

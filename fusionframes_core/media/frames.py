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
_WHOLE_LEVEL = 1e-4  # what float32 may lack of one of 255 levels, that is no less for it


def fit_image(pixels: Tensor, size: tuple[int, int], fit: str = COVER) -> Tensor:
    """Pixels (B, 3, H, W), or (B, 4, H, W) with alpha, scaled, and of that the centre (B, 3, height, width).

    "cover" enlarges small ones too and ignores alpha. "official" is 1.1's code: everything in 8 bits; an image smaller
    than the video keeps its size, with black around it; colours are scaled by their alpha, which is then dropped.
    Raises ValueError for another name.
    """
    if fit not in IMAGE_FITS:
        raise ValueError(f"image_fit must be one of {', '.join(IMAGE_FITS)}; got {fit!r}")
    if fit == OFFICIAL:
        return torch.stack([_fit_in_8_bits(picture, size) for picture in pixels.cpu()]).to(pixels.device)
    height, width = size
    factor = min(pixels.shape[-1] / width, pixels.shape[-2] / height)
    scaled = (max(round(pixels.shape[-2] / factor), height), max(round(pixels.shape[-1] / factor), width))
    if scaled != tuple(pixels.shape[-2:]):
        pixels = functional.interpolate(pixels, scaled, mode="bicubic", antialias=True).clamp(-1, 1)
    # PIL's crop rounds a half to the even number, and Python's round does.
    top, left = round((scaled[0] - height) / 2), round((scaled[1] - width) / 2)
    return pixels[:, :3, top : top + height, left : left + width]


def _fit_in_8_bits(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """A picture (3 or 4, H, W) as 1.1's code scales, crops and reads it, with Pillow."""
    from PIL import Image

    height, width = size
    cut_off = ((pixels + 1) * 127.5 + _WHOLE_LEVEL).clamp(0, 255).to(torch.uint8)
    picture = Image.fromarray(cut_off.permute(1, 2, 0).numpy())
    factor = max(1, min(picture.size[0] / width, picture.size[1] / height))
    picture = picture.resize((round(picture.size[0] / factor), round(picture.size[1] / factor)))
    left, top = (picture.size[0] - width) / 2, (picture.size[1] - height) / 2
    picture = picture.crop((left, top, left + width, top + height)).convert("RGB")
    return to_pixels(np.array(picture)[None])[:, 0]


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

"""Stand-ins for the models of an evaluation, whose results are known."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nearest(latents: Tensor, skip_frames: int, seed: int) -> Tensor:
    """An interpolation that repeats keyframes."""
    return torch.cat([latents[:, :, :-1].repeat_interleave(4, dim=2), latents[:, :, -1:]], dim=2)


def same(video: Tensor) -> Tensor:
    """An autoencoder whose latents are pixels."""
    return video


def halve(pixels: Tensor) -> Tensor:
    """An encoder that halves height and width."""
    return functional.interpolate(pixels, size=(pixels.shape[2], *(side // 2 for side in pixels.shape[3:])))


def double(latents: Tensor) -> Tensor:
    """A decoder that doubles height and width."""
    return functional.interpolate(latents, scale_factor=(1, 2, 2))

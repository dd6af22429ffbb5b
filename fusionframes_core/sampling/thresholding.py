"""Keeping predicted clean latents in range (Saharia et al., arXiv 2205.11487, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor


def threshold_x0(x0: Tensor, quantile: float | None = None) -> Tensor:
    """Clip x0 (B, C, T, h, w) to [−1, 1], or scale each frame into it by its own quantile of |x0|.

    With a quantile each frame is clipped to ±max(1, quantile of its |x0|) and divided by that. What counts as one
    frame is one index of T: for interpolation that is a group of three frames, as in the official code.
    """
    if quantile is None:
        return x0.clamp(-1.0, 1.0)
    frames = x0.abs().transpose(1, 2).flatten(2)  # (B, T, C·h·w)
    limits = torch.stack([torch.quantile(row, quantile, dim=-1) for row in frames.float()]).clamp(min=1.0)
    limits = limits.to(x0.dtype)[:, None, :, None, None]
    return x0.clamp(-limits, limits) / limits

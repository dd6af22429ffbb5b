"""Group norm, what modulates it and SiLU: two passes over a channels-last tensor on a GPU, torch's own steps elsewhere.

The first pass takes the moments of every channel, the second normalises, scales, shifts and activates. The bias of the
convolution before may ride along (`input_bias`), so that it needs no pass of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from . import fused_operations
from .elementwise import modulate
from .elementwise import silu as silu_in_place
from .kernel_choice import attempt, takes_fused


@dataclass(frozen=True)
class GroupNormSpec:
    """Groups of channels, ε, and the learned weight and bias (C,), already on x's device and in its type."""

    groups: int
    eps: float = 1e-5
    weight: Tensor | None = None
    bias: Tensor | None = None


def plain_norm(x: Tensor, spec: GroupNormSpec, silu: bool = False, input_bias: Tensor | None = None) -> Tensor:
    """Group norm of x + input_bias, then SiLU if `silu`. x (N, C, H, W), input_bias (C,)."""
    if takes_fused(x, spec.weight, spec.bias, input_bias):
        out = _fused(x, spec, (None, None), 0.0, silu, input_bias)
        if out is not None:
            return out
    return _activated(_normed(x, spec, input_bias), silu)


def conditional_norm(
    x: Tensor, spec: GroupNormSpec, scale: Tensor, shift: Tensor, silu: bool = False, input_bias: Tensor | None = None
) -> Tensor:
    """norm(x + input_bias) · (scale + 1) + shift, then SiLU if `silu`: the U-Nets' norm.

    x (N, C, H, W); scale, shift (R, C), a row for every N / R neighbouring frames; input_bias (C,).
    """
    if takes_fused(x, scale, shift, spec.weight, spec.bias, input_bias):
        placed = (scale[:, :, None, None], shift[:, :, None, None])
        out = _fused(x, spec, placed, 1.0, silu, input_bias)
        if out is not None:
            return out
    normed = _normed(x, spec, input_bias).unflatten(0, (scale.shape[0], -1))
    scale, shift = (part[:, None, :, None, None] for part in (scale, shift))
    return _activated(modulate(normed, scale + 1, shift).flatten(0, 1), silu)


def spatial_norm(
    x: Tensor, spec: GroupNormSpec, scale: Tensor, shift: Tensor, silu: bool = False, input_bias: Tensor | None = None
) -> Tensor:
    """norm(x + input_bias) · scale + shift, then SiLU if `silu`: MoVQ's norm.

    x (N, C, H, W); scale, shift (R, C, h, w), repeated to the nearest position, where N / R, H / h and W / w are whole
    numbers; input_bias (C,). Raises ValueError for sizes that do not divide.
    """
    rows, _, height, width = scale.shape
    if x.shape[0] % rows or x.shape[2] % height or x.shape[3] % width:
        raise ValueError(f"scale {tuple(scale.shape)} must divide x {tuple(x.shape)} in rows, height and width")
    if takes_fused(x, scale, shift, spec.weight, spec.bias, input_bias):
        out = _fused(x, spec, (scale, shift), 0.0, silu, input_bias)
        if out is not None:
            return out
    down, across = x.shape[2] // height, x.shape[3] // width
    # Columns are repeated, rows broadcast: cheaper than resizing both on a CPU, and a smaller peak.
    scale, shift = (_per_frame(part, x.shape[0]).repeat_interleave(across, -1).unsqueeze(3) for part in (scale, shift))
    normed = _normed(x, spec, input_bias).unflatten(2, (-1, down))
    return _activated(modulate(normed, scale, shift).flatten(2, 3), silu)


def _per_frame(part: Tensor, frames: int) -> Tensor:
    rows = part.shape[0]
    return part if rows == frames else part.unsqueeze(1).expand(-1, frames // rows, -1, -1, -1).flatten(0, 1)


def _normed(x: Tensor, spec: GroupNormSpec, input_bias: Tensor | None) -> Tensor:
    whole = x if input_bias is None else x + input_bias[:, None, None].to(x.dtype)
    return F.group_norm(whole, spec.groups, spec.weight, spec.bias, spec.eps)


def _activated(x: Tensor, silu: bool) -> Tensor:
    return silu_in_place(x) if silu else x


def _fused(
    x: Tensor, spec: GroupNormSpec, modulation: tuple[Tensor | None, Tensor | None], offset: float, silu: bool,
    input_bias: Tensor | None,
) -> Tensor | None:  # fmt: skip
    how = ((spec.weight, spec.bias), input_bias, modulation, offset, silu)
    return attempt(x, lambda: fused_operations.group_norm(x, spec.groups, spec.eps, *how))

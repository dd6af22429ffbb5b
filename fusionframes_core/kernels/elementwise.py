"""Sums and merges of two tensors, in the place of one of them where no gradient needs it, with a bias in the same pass.

Fresh memory is what costs most beside the convolutions on a CPU; on a GPU a bias of its own costs a whole pass.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fused_operations
from .kernel_choice import takes_fused


def silu(x: Tensor) -> Tensor:
    """SiLU; in place when no gradient needs its input."""
    return F.silu(x, inplace=not x.requires_grad)


def modulate(fresh: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """fresh · scale + shift, in the place of `fresh`, which nobody else may hold, when no gradient needs it."""
    return torch.addcmul(shift, fresh, scale, out=_place(fresh, scale, shift))


def plus(x: Tensor, fresh: Tensor, bias: Tensor | None = None) -> Tensor:
    """x + (fresh + bias), in the place of `fresh` likewise when both lie alike. x (..., C, H, W); bias (C,)."""
    if bias is not None:
        if takes_fused(x, fresh, bias):
            return fused_operations.merge(x, fresh, bias, None, False)
        fresh = biased(fresh, bias)
    return torch.add(x, fresh, out=_place_like(x, fresh))


def blend(x: Tensor, fresh: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(1 − weight) · x + weight · (fresh + bias) likewise; weight (1,), or (R, 1, 1, ...) with a number per row."""
    if bias is not None:
        if takes_fused(x, fresh, weight, bias):
            return fused_operations.merge(x, fresh, bias, weight, True)
        fresh = biased(fresh, bias)
    return torch.lerp(x, fresh, weight, out=_place_like(x, fresh, weight))


def add_scaled(x: Tensor, fresh: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x + weight · (fresh + bias) likewise."""
    if bias is not None:
        if takes_fused(x, fresh, weight, bias):
            return fused_operations.merge(x, fresh, bias, weight, False)
        fresh = biased(fresh, bias)
    return torch.addcmul(x, weight, fresh, out=_place_like(x, fresh, weight))


def biased(fresh: Tensor, bias: Tensor) -> Tensor:
    """fresh (..., C, H, W) + bias (C,), in its place likewise."""
    return torch.add(fresh, bias[:, None, None], out=_place(fresh, bias))


def _place(fresh: Tensor, *others: Tensor) -> Tensor | None:
    if torch.compiler.is_compiling():  # the compiler places results itself; out= would break its graph
        return None
    return None if any(operand.requires_grad for operand in (fresh, *others)) else fresh


def _place_like(x: Tensor, fresh: Tensor, *others: Tensor) -> Tensor | None:
    """The result has x's memory layout, in place or not: the convolutions behind it are chosen by that."""
    return _place(fresh, x, *others) if fresh.stride() == x.stride() else None

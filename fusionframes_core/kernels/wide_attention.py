"""Attention of one wide head: MoVQ's has 1,024 channels, more than any fused kernel of torch takes on a GPU.

torch's fallback there computes in float32 without tensor cores and holds all scores at once. Here products are in the
operands' type, the softmax in float32, and scores exist for a block of queries only.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fused_operations
from .kernel_choice import attempt, takes_fused

WIDEST_FUSED = 256  # channels of a head that torch's fused kernels take
SCORES = 2**24  # numbers that may exist at once, 64 MiB in float32
LONGEST_ROW = 2**14  # scores of one query that the kernel takes


def wide_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q·Kᵀ / √C)·V for query (N, heads, L, C), key and value (N, heads, M, C): (N, heads, L, C).

    By query blocks on a GPU whose fused kernels do not take the width; elsewhere, for gradients and while compiling,
    torch's scaled_dot_product_attention.
    """
    needed = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    own = query.device.type in ("cpu", "mps") or query.shape[-1] <= WIDEST_FUSED
    if own or needed or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(query, key, value)
    out = blocked_attention(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return out.unflatten(0, query.shape[:2])


def blocked_attention(query: Tensor, key: Tensor, value: Tensor, scores: int = SCORES) -> Tensor:
    """The same for (N, L, C) on any device, with at most `scores` scores in memory (but one query's of all N)."""
    rows, length, channels = query.shape
    size = max(scores // (rows * key.shape[1]), 1)
    out = query.new_empty((rows, length, value.shape[-1]))
    turned = key.transpose(1, 2)
    for start in range(0, length, size):
        block = _float_product(query[:, start : start + size], turned)
        torch.bmm(_shares(block, channels**-0.5, value), value, out=out[:, start : start + size])
    return out


def _shares(scores: Tensor, factor: float, value: Tensor) -> Tensor:
    """softmax(factor · scores) in the type of `value`; scores, float32, may be written over."""
    if scores.shape[-1] <= LONGEST_ROW and takes_fused(value):
        out = attempt(value, lambda: fused_operations.softmax(scores, factor, value.dtype))
        if out is not None:
            return out
    return scores.mul_(factor).softmax(-1).to(value.dtype)


def _float_product(left: Tensor, right: Tensor) -> Tensor:
    """left · right in float32, from operands in 16 bits where the device can."""
    half = left.dtype in (torch.float16, torch.bfloat16)
    if half and left.device.type in ("cuda", "meta") and _has_out_dtype():
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left, right).float()


@cache
def _has_out_dtype() -> bool:
    """Whether torch.bmm takes `out_dtype`: CUDA's in torch 2.8 and newer."""
    return torch.version.hip is None and "dtype" in torch.ops.aten.bmm.overloads()

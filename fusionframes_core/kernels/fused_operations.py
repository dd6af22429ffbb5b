"""The fused kernels as operations of torch, so that profilers, counters and meta tensors know them.

`torch.ops.fusionframes.group_norm`, `.merge`, `.merge_`, which writes over its first operand, and `.softmax`. Results
of the first three are channels-last; `kernel_choice.takes_fused` decides who comes here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAMESPACE = "fusionframes"
SCHEMAS = (
    "group_norm(Tensor x, int groups, float eps, Tensor? input_bias, Tensor? weight, Tensor? bias, Tensor? scale, "
    "Tensor? shift, float scale_offset, bool silu) -> Tensor",
    "merge(Tensor x, Tensor fresh, Tensor bias, Tensor? weight, bool convex) -> Tensor",
    "merge_(Tensor(a!) x, Tensor fresh, Tensor bias, Tensor? weight, bool convex) -> Tensor(a!)",
    "softmax(Tensor scores, float factor, ScalarType dtype) -> Tensor",
)


def _empty(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def _group_norm(x: Tensor, *how: Any) -> Tensor:
    from . import triton_kernels

    return triton_kernels.group_norm(x, *how)


def _group_norm_shape(x: Tensor, *how: Any) -> Tensor:
    return _empty(x)


def _merge(x: Tensor, fresh: Tensor, *how: Any) -> Tensor:
    from . import triton_kernels

    return triton_kernels.merge(x, fresh, *how)


def _merge_shape(x: Tensor, fresh: Tensor, *how: Any) -> Tensor:
    return _empty(x)


def _merge_over(x: Tensor, fresh: Tensor, bias: Tensor, weight: Tensor | None, convex: bool) -> Tensor:
    from . import triton_kernels

    return triton_kernels.merge(x, fresh, bias, weight, convex, over=True)


def _softmax(scores: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    from . import triton_kernels

    return triton_kernels.softmax(scores, factor, dtype)


def _softmax_shape(scores: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(scores, dtype=dtype)


def _same(x: Tensor, *how: Any) -> Tensor:
    return x


OPERATIONS = {
    "group_norm": (_group_norm, _group_norm_shape),
    "merge": (_merge, _merge_shape),
    "merge_": (_merge_over, _same),
    "softmax": (_softmax, _softmax_shape),
}  # what runs, and what says the result's shape


def _define() -> Any:
    """The library that holds the operations; None where another copy of this package defined them already."""
    if hasattr(getattr(torch.ops, NAMESPACE), "group_norm"):
        return None
    library = torch.library.Library(NAMESPACE, "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    for name, (run, shape) in OPERATIONS.items():
        for key in ("CUDA", "CPU"):  # a CPU only in Triton's interpreter
            library.impl(name, run, key)
        library.impl(name, shape, "Meta")
    return library


_LIBRARY = _define()  # the operations live as long as it does


def group_norm(
    x: Tensor, groups: int, eps: float, affine: tuple[Tensor | None, Tensor | None], input_bias: Tensor | None,
    modulation: tuple[Tensor | None, Tensor | None], scale_offset: float, silu: bool,
) -> Tensor:  # fmt: skip
    """act(norm(x + input_bias) · weight + bias) · (scale + scale_offset) + shift): see `group_norms`.

    x (N, C, H, W); affine: weight, bias (C,); modulation: scale, shift (R, C, h, w) with R | N, h | H, w | W.
    """
    return torch.ops.fusionframes.group_norm(x, groups, eps, input_bias, *affine, *modulation, scale_offset, silu)


def merge(x: Tensor, fresh: Tensor, bias: Tensor, weight: Tensor | None, convex: bool, over: bool = False) -> Tensor:
    """x + weight · (fresh + bias − convex · x), all (..., C, H, W); weight: one number, or one for each of R rows.

    `bias`: (C,), or (T, h, w, C) as in `elementwise.place_bias`. `over`: the result takes x's place.
    """
    weight = None if weight is None else weight.flatten()
    shape = x.shape
    flat = [part.reshape(-1, *shape[-3:]) for part in (x, fresh)]
    if over and flat[0].data_ptr() == x.data_ptr() and flat[0].is_contiguous(memory_format=torch.channels_last):
        torch.ops.fusionframes.merge_(*flat, bias, weight, convex)
        return x
    made = torch.ops.fusionframes.merge(*flat, bias, weight, convex).view(shape)
    return x.copy_(made) if over else made


def softmax(scores: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """softmax(factor · scores) over the last axis, computed in float32 and written in `dtype`."""
    return torch.ops.fusionframes.softmax(scores, factor, dtype)

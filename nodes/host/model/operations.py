"""ComfyUI's layers as the `operations` namespace that every network of fusionframes_core is made from.

Layers that take their weights through `comfy.ops` are cast, streamed and patched (LoRA) by ComfyUI like its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import comfy.ops
import torch
from torch import Tensor

from ....fusionframes_core.models.layers import FastConv2d, FastConv3d, FastLinear, FusedGroupNorm, Lent
from ....fusionframes_core.models.layout import FORMATS

PLAIN = (comfy.ops.disable_weight_init, comfy.ops.manual_cast)
"""Namespaces whose Linear is torch's product of what `cast_bias_weight` gives; others multiply in 8 bits."""


class Alpha(torch.nn.Module, comfy.ops.CastWeightBiasOp):
    """The learned merge weight α as a layer that ComfyUI casts and patches."""

    comfy_cast_weights = True

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(1, device=device, dtype=dtype), requires_grad=False)
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """α as a tensor of shape (1,), in the type and on the device of `x`."""
        return own_weights(self, x)[0]


@contextmanager
def lent_weights(layer: Any, x: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """A layer's weight and bias, cast, streamed and patched for `x`; ComfyUI takes the weight back after the context.

    The bias is the layer's own or a copy, which a later pass may read.
    """
    lay_out(layer, x)
    weight, bias, lender = comfy.ops.cast_bias_weight(layer, x, offloadable=True)
    try:
        yield weight, bias if bias is None or bias is layer.bias else bias.clone()
    finally:
        comfy.ops.uncast_bias_weight(layer, weight, bias, lender)


def own_weights(layer: Any, x: Tensor) -> tuple[Any, Tensor | None]:
    """A layer's small weight and bias for `x`, to be kept: copies where they are not the layer's own."""
    weight, bias, lender = comfy.ops.cast_bias_weight(layer, x, offloadable=True)
    if lender is not None and not torch.compiler.is_compiling():
        pairs = (weight, layer.weight), (bias, layer.bias)
        weight, bias = (part if part is None or part is own else part.clone() for part, own in pairs)
    comfy.ops.uncast_bias_weight(layer, weight, bias, lender)
    return weight, bias


def lay_out(layer: Any, x: Tensor) -> None:
    """Turn a kernel once, so that no step copies it into another layout.

    Where `x` is, its channels lie last; in main memory, from where ComfyUI copies it in every step, as in its buffers.
    ComfyUI's dynamic memory (`_v`) has its own copy on the GPU, which nobody else can turn.
    """
    weight = layer.weight
    if weight.ndim in FORMATS and not hasattr(layer, "_v"):
        lies = FORMATS[weight.ndim] if weight.device == x.device else torch.contiguous_format
        if not weight.is_contiguous(memory_format=lies):
            weight.data = weight.data.contiguous(memory_format=lies)


@lru_cache(maxsize=8)
def hosted(operations: Any) -> Any:
    """One of ComfyUI's namespaces (`disable_weight_init`, `manual_cast`, ...) with what our networks have besides."""

    class Operations(operations):
        if operations in PLAIN:

            class Linear(FastLinear, operations.Linear):
                """ComfyUI's layer, whose product may add itself to an activation."""

                def lent_weights(self, x: Tensor) -> Lent:
                    return lent_weights(self, x)

        class Conv2d(FastConv2d, operations.Conv2d):
            """ComfyUI's layer, a product where its kernel is 1×1 and the fused kernels run."""

            def lent_weights(self, x: Tensor) -> Lent:
                return lent_weights(self, x)

        class Conv3d(FastConv3d, operations.Conv3d):
            """ComfyUI's layer with the fast path for kernels of (k, 1, 1) on a CPU."""

            def lent_weights(self, x: Tensor) -> Lent:
                return lent_weights(self, x)

        class GroupNorm(FusedGroupNorm, operations.GroupNorm):
            """ComfyUI's layer, which casts and patches its weights, in front of our norms."""

            def weights_for(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
                return own_weights(self, x)

    Operations.Alpha = Alpha
    return Operations

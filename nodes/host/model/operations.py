"""ComfyUI's layers as the `operations` namespace that every network of fusionframes_core is made from.

Layers that take their weights through `comfy.ops` are cast, streamed and patched (LoRA) by ComfyUI like its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import comfy.ops
import torch
from torch import Tensor

from ....fusionframes_core.models.layers import FastConv2d, FastConv3d, FusedGroupNorm


class Alpha(torch.nn.Module, comfy.ops.CastWeightBiasOp):
    """The learned merge weight α as a layer that ComfyUI casts and patches."""

    comfy_cast_weights = True

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(1, device=device, dtype=dtype), requires_grad=False)
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """α as a tensor of shape (1,), in the type and on the device of `x`."""
        weight, _ = comfy.ops.cast_bias_weight(self, x)
        return weight


def cast_weights(layer: Any, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A layer's weight and bias, cast, streamed and patched for `x`."""
    weight, bias = comfy.ops.cast_bias_weight(layer, x)
    return weight, bias


@lru_cache(maxsize=8)
def hosted(operations: Any) -> Any:
    """One of ComfyUI's namespaces (`disable_weight_init`, `manual_cast`, ...) with what our networks have besides."""

    class Operations(operations):
        class Conv2d(FastConv2d, operations.Conv2d):
            """ComfyUI's layer, a product where its kernel is 1×1 and the fused kernels run."""

            def weights_for(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
                return cast_weights(self, x)

        class Conv3d(FastConv3d, operations.Conv3d):
            """ComfyUI's layer with the fast path for kernels of (k, 1, 1) on a CPU."""

            def weights_for(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
                return cast_weights(self, x)

        class GroupNorm(FusedGroupNorm, operations.GroupNorm):
            """ComfyUI's layer, which casts and patches its weights, in front of our norms."""

            def weights_for(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
                return cast_weights(self, x)

    Operations.Alpha = Alpha
    return Operations

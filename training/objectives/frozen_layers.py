"""Frozen layers of the base under adapters: weights in 16, 8 or 4 bits, and nothing kept that only they would need.

A frozen linear layer or convolution passes gradients on by its weight alone: for the backward pass it keeps neither its
input nor its weight, which is unpacked again. torch's own convolutions keep both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionframes_core.models.layers import Conv2d, Conv3d, Lent, TorchOperations
from training.engine.frozen import convolution_input_gradient

OUTER = ("in_layer", "image_in_layer", "out_layer", "to_time_embed", "frame_embedding")
"""Parts of a U-Net whose weights are never packed: few, and what every frame goes through."""


class FrozenCall(torch.autograd.Function):
    """A frozen layer's output, and the input's gradient by the layer's weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLayer) -> Tensor:
        ctx.layer, ctx.shape = layer, x.shape
        return layer.compute(x, layer.dense(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (gradient,) = gradients
        return ctx.layer.input_gradient(gradient, ctx.layer.dense(gradient.dtype), ctx.shape), None


class FrozenLayer(nn.Module, ABC):
    """Mixin: a layer whose weight and bias do not train."""

    spares_input = True  # for the engine, which would make plain layers so
    weight: Any
    bias: Any

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight to compute with."""
        packed: Any = self._modules.get("packed")
        return (self.weight if packed is None else packed.dense()).to(dtype)

    def lent_weights(self, x: Tensor) -> Lent:
        """Kernel and bias in the type of `x`, for the fused path of sampling."""
        return nullcontext((self.dense(x.dtype), None if self.bias is None else self.bias.to(x.dtype)))

    def forward(self, input: Tensor, *unused: Any) -> Tensor:
        return FrozenCall.apply(input, self)

    @abstractmethod
    def compute(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer's output with this weight."""

    @abstractmethod
    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of an input of this shape for that of the output."""

    def pack(self, packing: Callable[[Tensor], nn.Module]) -> None:
        """Keep the weight as `packing` makes it, a module whose `dense()` is the weight; `weight` then only says its
        shape and type."""
        weight = self.weight.detach()
        self.packed = packing(weight)
        del self.weight
        self.weight = torch.empty_like(weight, device="meta")  # no parameter: it does not move with the layer


class FrozenLinear(FrozenLayer, nn.Linear):
    """A frozen nn.Linear."""

    def compute(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight, self.bias)

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        return gradient @ weight


class FrozenConvolution(FrozenLayer):
    """Mixin for convolutions."""

    def input_gradient(self, gradient: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        return convolution_input_gradient(self, gradient, weight, like=gradient.new_empty(1).expand(shape))


class FrozenConv2d(FrozenConvolution, Conv2d):
    """A frozen Conv2d."""

    def compute(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._conv_forward(x, weight, self.bias)


class FrozenConv3d(FrozenConvolution, Conv3d):
    """A frozen Conv3d."""

    def compute(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._conv_forward(x, weight, self.bias)


class FrozenConvTranspose2d(FrozenConvolution, nn.ConvTranspose2d):
    """A frozen ConvTranspose2d."""

    def compute(self, x: Tensor, weight: Tensor) -> Tensor:
        how: Any = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(x, weight, self.bias, *how)


class FrozenOperations(TorchOperations):
    """The namespace of a base that does not train; norms, tables and α are torch's own."""

    Linear = FrozenLinear
    Conv2d = FrozenConv2d
    Conv3d = FrozenConv3d
    ConvTranspose2d = FrozenConvTranspose2d


def pack_layers(unet: nn.Module, packing: Callable[[Tensor], nn.Module]) -> None:
    """Pack the weights of all frozen layers but those of OUTER, one after the other."""
    for name, module in unet.named_modules():
        if isinstance(module, FrozenLayer) and name.split(".")[0] not in OUTER:
            module.pack(packing)

"""Layers whose weights are stored in a smaller type than they compute in (8-bit floats), cast as they are used."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Alpha, Conv2d, Conv3d, Lent, Linear, TorchOperations

FP8 = torch.float8_e4m3fn
FP8_COMPUTE = torch.bfloat16
FP8_LARGEST = torch.finfo(FP8).max
_TABLES = re.compile(r"(^|\.)(skip_frames|embed_tokens|relative_attention_bias)\.weight$")


def stored_type(name: str, num_axes: int, dtype: torch.dtype) -> torch.dtype:
    """The type that a parameter is stored in when a model is stored in `dtype`.

    In 8 bits only the matrices and kernels of layers are; biases, norms, tables and single numbers keep 16.
    """
    if dtype != FP8:
        return dtype
    matrix = num_axes >= 2 and name.endswith(".weight") and not _TABLES.search(name)
    return FP8 if matrix else FP8_COMPUTE


def compute_dtype(model: nn.Module) -> torch.dtype:
    """The type that a model computes in: of its parameters, but for those that are stored in 8 bits."""
    return next(parameter.dtype for parameter in model.parameters() if parameter.dtype.itemsize > 1)


class CastLinear(Linear):
    """Linear whose parameters take the input's type."""

    def lent_weights(self, x: Tensor) -> Lent:
        return nullcontext(_cast(self, x))

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, *_cast(self, input))


class CastConv2d(Conv2d):
    """Conv2d whose parameters take the input's type."""

    def lent_weights(self, x: Tensor) -> Lent:
        return nullcontext(_cast(self, x))

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, *_cast(self, input))


class CastConv3d(Conv3d):
    """Conv3d whose parameters take the input's type."""

    def lent_weights(self, x: Tensor) -> Lent:
        return nullcontext(_cast(self, x))

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, *_cast(self, input))


class CastConvTranspose2d(nn.ConvTranspose2d):
    """torch's ConvTranspose2d whose parameters take the input's type."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        weight, bias = _cast(self, input)
        padding = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return F.conv_transpose2d(input, weight, bias, *padding)  # type: ignore[arg-type]


class CastingOperations(TorchOperations):
    """The namespace for models that are stored in 8 bits; norms and tables are not."""

    Linear = CastLinear
    Conv2d = CastConv2d
    Conv3d = CastConv3d
    ConvTranspose2d = CastConvTranspose2d
    Alpha = Alpha


def operations_for(dtype: torch.dtype | None) -> type[TorchOperations]:
    """The namespace of layers that can work with weights stored in `dtype`."""
    return CastingOperations if dtype == FP8 else TorchOperations


def _cast(layer: Any, like: Tensor) -> tuple[Tensor, Tensor | None]:
    bias = None if layer.bias is None else layer.bias.to(like.dtype)
    return layer.weight.to(like.dtype), bias

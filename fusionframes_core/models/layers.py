"""The layers that every model is made of, and the namespace they are taken from.

A model takes an `operations` namespace and makes each layer as `operations.Linear(..., device=, dtype=)`, so that a
host can slot in layers that cast, offload or patch their weights. `TorchOperations` is the default: torch's own layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import UNetConfig


class Alpha(nn.Module):
    """A learned merge weight α (paper, eq. 3): one number, a leaf layer so that a host can cast and patch it."""

    def __init__(self, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """α as a tensor of shape (1,), in the type and on the device of `x`."""
        return self.weight.to(device=x.device, dtype=x.dtype)


if TYPE_CHECKING:
    _Mixin = nn.Conv3d
else:
    _Mixin = object


class FastConv3d(_Mixin):
    """Mixin for Conv3d: on a CPU, kernels of shape (k, 1, 1) run as 2-D convolutions over (T, H·W), 3-4× faster.

    Works under any Conv3d whose forward ends in torch's `_conv_forward`, so a host can mix it into its own layer.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        plain = self.stride == (1, 1, 1) and self.dilation == (1, 1, 1) and self.padding_mode == "zeros"
        flat = self.kernel_size[1:] == (1, 1) and tuple(self.padding[1:]) == (0, 0) and self.groups == 1
        if not (input.is_cpu and input.ndim == 5 and plain and flat):
            return super()._conv_forward(input, weight, bias, *args, **kwargs)
        if self.kernel_size[0] == 1 and self.padding[0] == 0:
            return F.linear(input.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        out = F.conv2d(input.flatten(3), weight.flatten(3), bias, padding=(int(self.padding[0]), 0))
        return out.unflatten(3, input.shape[3:])


class Conv3d(FastConv3d, nn.Conv3d):
    """torch's Conv3d with the fast path of `FastConv3d`."""


class TorchOperations:
    """Layers from torch.nn, plus `Alpha`; a host's namespace has the same names and signatures."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    Conv3d = Conv3d
    ConvTranspose2d = nn.ConvTranspose2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm
    Embedding = nn.Embedding
    Alpha = Alpha


@dataclass(frozen=True)
class Maker:
    """Makes the layers of one U-Net: its sizes, its operations namespace, where and in which type parameters lie."""

    config: UNetConfig
    operations: Any
    device: Any
    dtype: torch.dtype | None

    def linear(self, inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
        return self.operations.Linear(inputs, outputs, bias=bias, device=self.device, dtype=self.dtype)

    def conv(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> nn.Conv2d:
        padding = kernel // 2
        kind = self.operations.Conv2d
        return kind(inputs, outputs, kernel, padding=padding, bias=bias, device=self.device, dtype=self.dtype)

    def conv3d(self, inputs: int, outputs: int, kernel: tuple[int, int, int]) -> nn.Conv3d:
        padding = tuple(size // 2 for size in kernel)
        return self.operations.Conv3d(inputs, outputs, kernel, padding=padding, device=self.device, dtype=self.dtype)

    def half(self, channels: int) -> nn.Conv2d:
        return self.operations.Conv2d(channels, channels, 2, stride=2, device=self.device, dtype=self.dtype)

    def double(self, channels: int) -> nn.ConvTranspose2d:
        return self.operations.ConvTranspose2d(channels, channels, 2, stride=2, device=self.device, dtype=self.dtype)

    def embedding(self, entries: int, width: int) -> nn.Embedding:
        return self.operations.Embedding(entries, width, device=self.device, dtype=self.dtype)

    def alpha(self) -> nn.Module:
        return self.operations.Alpha(device=self.device, dtype=self.dtype)

    def norm(self, channels: int) -> ConditionalGroupNorm:
        return ConditionalGroupNorm(channels, self)

    def temporal_norm(self, channels: int) -> ConditionalGroupNorm:
        name = self.config.temporal_place
        if name not in TEMPORAL_NORMS:
            raise ValueError(f"temporal_place must be one of {', '.join(TEMPORAL_NORMS)}; got {name!r}")
        return TEMPORAL_NORMS[name](channels, self)

    def attention(self, inputs: int, outputs: int, context: int) -> Attention:
        return Attention(inputs, outputs, context, self)

    def scalar(self) -> ScalarEmbedding:
        return ScalarEmbedding(self)


def sinusoidal(values: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of `values` (N,) at `dim // 2` frequencies from 1 down to 1/10000; float32 (N, dim)."""
    half = dim // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32)
    angles = values.float()[:, None] * torch.exp(steps * (-math.log(10000) / (half - 1)))
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ScalarEmbedding(nn.Module):
    """A number per row (diffusion time, frame position, motion score, ...) to a vector: sinusoid, then a small MLP."""

    def __init__(self, make: Maker) -> None:
        super().__init__()
        self.dim = make.config.init_channels
        self.linear_in = make.linear(self.dim, make.config.time_embed_dim)
        self.linear_out = make.linear(make.config.time_embed_dim, make.config.time_embed_dim)

    def forward(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """(N,) to (N, time_embed_dim) in `dtype`."""
        return self.linear_out(F.silu(self.linear_in(sinusoidal(values, self.dim).to(dtype))))


class ConditionalGroupNorm(nn.Module):
    """Group norm of each frame whose scale and shift are read from an embedding."""

    def __init__(self, channels: int, make: Maker) -> None:
        super().__init__()
        self.groups = make.config.groups
        if channels % self.groups:
            raise ValueError(f"groups must divide every width of the U-Net; got {self.groups} and {channels}")
        self.modulation = make.linear(make.config.time_embed_dim, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B·T, C, H, W); embedding (R, E), already through SiLU, a row per video (R = B) or frame (R = B·T)."""
        rows = embedding.shape[0]
        scale, shift = self.modulation(embedding)[:, None, :, None, None].chunk(2, dim=2)
        normed = F.group_norm(x, self.groups)
        return modulate(normed.unflatten(0, (rows, -1)), scale + 1, shift).flatten(0, 1)


PLACE_OCTAVES = 3
PLACE_FEATURES = 2 * (1 + 2 * PLACE_OCTAVES)


def place_features(height: int, width: int, like: Tensor) -> Tensor:
    """Where each position lies in the frame, at any resolution alike: (H·W, PLACE_FEATURES) in `like`'s type.

    Per axis the coordinate in (−1, 1), and its sines and cosines at quarter, half and whole waves.
    """
    axes = [
        (torch.arange(size, device=like.device, dtype=torch.float32) * 2 + 1) / size - 1 for size in (height, width)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)
    waves = [grid * (math.pi / 2 * 2**octave) for octave in range(PLACE_OCTAVES)]
    return torch.cat([grid, *(part for wave in waves for part in (wave.sin(), wave.cos()))], dim=1).to(like.dtype)


class PlacedGroupNorm(ConditionalGroupNorm):
    """A conditional norm that adds a learned function of the position in the frame.

    Ours: temporal blocks work on each position by itself, so without it "the shape enters at the right" is hard to say.
    """

    def __init__(self, channels: int, make: Maker) -> None:
        super().__init__(channels, make)
        self.place = make.linear(PLACE_FEATURES, channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return super().forward(x, embedding) + to_frames(
            self.place(place_features(height, width, x))[None], height, width
        )


TEMPORAL_NORMS: dict[str, type[ConditionalGroupNorm]] = {"none": ConditionalGroupNorm, "grid": PlacedGroupNorm}
"""What the norms of temporal parts know of the position in the frame: nothing (official), or its coordinates."""


class Attention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, inputs: int, outputs: int, context: int, make: Maker) -> None:
        super().__init__()
        self.head_dim = make.config.head_dim
        if outputs % self.head_dim:
            raise ValueError(f"head_dim must divide every attention width; got {self.head_dim} and {outputs}")
        self.to_query = make.linear(inputs, outputs, bias=False)
        self.to_key = make.linear(context, outputs, bias=False)
        self.to_value = make.linear(context, outputs, bias=False)
        self.output_layer = make.linear(outputs, outputs, bias=False)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """x (B, N, inputs), context (B, M, context), mask bool that broadcasts to (B, heads, N, M): (B, N, outputs)."""
        query, key, value = self.to_query(x), self.to_key(context), self.to_value(context)
        query, key, value = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in (query, key, value))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output_layer(out.transpose(1, 2).flatten(2))


# Fresh memory is what costs most beside the convolutions: where no gradient needs an operand, its place is taken.
def silu(x: Tensor) -> Tensor:
    """SiLU; in place when no gradient needs its input."""
    return F.silu(x, inplace=not x.requires_grad)


def plus(x: Tensor, fresh: Tensor) -> Tensor:
    """x + fresh; in the place of `fresh`, which nobody else may hold, when no gradient needs it and both lie alike."""
    return torch.add(x, fresh, out=_place_like(x, fresh))


def modulate(fresh: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """fresh · scale + shift, in the place of `fresh` likewise."""
    return torch.addcmul(shift, fresh, scale, out=_place(fresh, scale, shift))


def blend(x: Tensor, fresh: Tensor, weight: Tensor) -> Tensor:
    """(1 − weight) · x + weight · fresh, in the place of `fresh` likewise."""
    return torch.lerp(x, fresh, weight, out=_place_like(x, fresh, weight))


def add_scaled(x: Tensor, fresh: Tensor, weight: Tensor) -> Tensor:
    """x + weight · fresh, in the place of `fresh` likewise."""
    return torch.addcmul(x, weight, fresh, out=_place_like(x, fresh, weight))


def _place(fresh: Tensor, *others: Tensor) -> Tensor | None:
    if torch.compiler.is_compiling():  # the compiler places results itself; out= would break its graph
        return None
    return None if any(operand.requires_grad for operand in (fresh, *others)) else fresh


def _place_like(x: Tensor, fresh: Tensor, *others: Tensor) -> Tensor | None:
    """The result has x's memory layout, in place or not: the convolutions behind it are chosen by that."""
    return _place(fresh, x, *others) if fresh.stride() == x.stride() else None


class SiLU(nn.Module):
    """`silu` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


def to_tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H·W, C); no copy when `x` is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def to_frames(tokens: Tensor, height: int, width: int) -> Tensor:
    """(N, H·W, C) to a channels-last (N, C, H, W); the inverse of `to_tokens`."""
    return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)

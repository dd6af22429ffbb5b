"""Spatial blocks of the MoVQ autoencoder (paper section 4.3): norms, residual blocks, attention, resampling.

Inside the autoencoder time is folded into the batch: every tensor is (B·T, C, H, W) and every norm is of one frame.
`FrameContext` carries what the blocks need beside the activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import modulate

PORTION = 2**20  # numbers of an activation that by_frames takes at once


@dataclass(frozen=True)
class FrameContext:
    """What conditions a decoder block.

    latents (B·T, C, h, w): the quantised latents that modulate the spatial norms.
    num_frames: T. temporal: False skips every temporal layer, so that frames are decoded as independent images.
    """

    latents: Tensor
    num_frames: int
    temporal: bool


@dataclass(frozen=True)
class TemporalParts:
    """Which temporal layers a decoder of Table 3 has."""

    kernel: tuple[int, int, int] | None = None  # of the 3D convolution that follows every 3×3 convolution
    attention: bool = False  # temporal attention after every spatial attention block
    residual_blocks: bool = False  # a temporal residual block after every spatial one
    inflated: bool = False  # the 3×3 convolutions themselves become 3×3×3


@dataclass(frozen=True)
class BlockSpec:
    """Everything that the blocks of one encoder or decoder have in common."""

    operations: Any
    device: torch.device | str | None
    dtype: torch.dtype | None
    groups: int
    latent_channels: int
    norm: type[FrameNorm]
    attention_norm: type[FrameNorm]
    temporal_attention_norm: type[FrameNorm]
    temporal_merge: str
    temporal: TemporalParts

    def conv2d(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, padding: int | None = None
    ) -> Any:
        """A 2D convolution, padded to keep the size unless `padding` is given."""
        padding = kernel // 2 if padding is None else padding
        return self.operations.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=padding, device=self.device, dtype=self.dtype
        )

    def conv3d(self, in_channels: int, out_channels: int, kernel: tuple[int, int, int]) -> Any:
        """A 3D convolution that keeps the size."""
        padding = tuple(size // 2 for size in kernel)
        return self.operations.Conv3d(
            in_channels, out_channels, kernel, padding=padding, device=self.device, dtype=self.dtype
        )


def fold_frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B·T, C, H, W)."""
    return x.transpose(1, 2).flatten(0, 1)


def unfold_frames(x: Tensor, num_frames: int) -> Tensor:
    """(B·T, C, H, W) -> (B, C, T, H, W)."""
    return x.unflatten(0, (-1, num_frames)).transpose(1, 2)


def by_frames(
    work: Callable[[Tensor, FrameContext], Tensor], x: Tensor, context: FrameContext, portion: int = PORTION
) -> Tensor:
    """work(x, context), which sees single frames, for x (B·T, C, H, W): a few frames at a time.

    What lies between a norm and its convolution then never exists for the whole video, unless gradients need it.
    """
    size = max(portion // x[0].numel(), 1)
    if len(x) <= size or torch.is_grad_enabled():
        return work(x, context)
    whole = None
    for start in range(0, len(x), size):
        seen = replace(context, latents=context.latents[start : start + size])
        part = work(x[start : start + size], seen)
        if whole is None:
            whole = part.new_empty((len(x), *part.shape[1:]))
        whole[start : start + size] = part
    assert whole is not None
    return whole


class FrameNorm(nn.Module):
    """Group norm of each frame; the encoder's."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.norm_layer = spec.operations.GroupNorm(
            spec.groups, channels, eps=1e-6, affine=True, device=spec.device, dtype=spec.dtype
        )

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return self.norm_layer(x)


class SpatialNorm(FrameNorm):
    """Group norm modulated by the frame's own latent: norm(x) · conv_y(z) + conv_b(z) (MoVQ).

    The 1×1 convolutions run at the latent's size: they commute with nearest-neighbour resizing.
    """

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__(channels, spec)
        self.conv_y = spec.conv2d(spec.latent_channels, channels, 1)
        self.conv_b = spec.conv2d(spec.latent_channels, channels, 1)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return self.modulated(x, context.latents)

    def modulated(self, x: Tensor, latents: Tensor) -> Tensor:
        """x (N, C, H, W), latents (N, c, h, w) -> (N, C, H, W), where H / h = W / w is a whole number."""
        factor = x.shape[-1] // latents.shape[-1]
        # Columns are repeated, rows broadcast: several times faster than resizing both on a CPU, and a smaller peak.
        scale, shift = (
            layer(latents).repeat_interleave(factor, -1).unsqueeze(3) for layer in (self.conv_y, self.conv_b)
        )
        return modulate(self.norm_layer(x).unflatten(2, (-1, factor)), scale, shift).flatten(2, 3)


class FirstFrameNorm(SpatialNorm):
    """The first frame's latent modulates all frames of the chunk, as in the official 1.1 code's spatial attention."""

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        if not context.temporal:
            return self.modulated(x, context.latents)
        latents = context.latents.unflatten(0, (-1, context.num_frames))
        return self.modulated(x, latents[:, :1].expand_as(latents).flatten(0, 1))


class UnmodulatedNorm(SpatialNorm):
    """Has the modulation's weights and does not use them, as the official 1.1 code does in temporal attention."""

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return self.norm_layer(x)


# MoVQConfig.attention_norm -> norms of spatial and of temporal attention
ATTENTION_NORMS: dict[str, tuple[type[FrameNorm], type[FrameNorm]]] = {
    "first_frame": (FirstFrameNorm, UnmodulatedNorm),
    "per_frame": (SpatialNorm, SpatialNorm),
}


class Skip(nn.Module):
    """A layer that is not there."""

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return x


class AttentionBlock(nn.Module):
    """Single-head self-attention over the positions of each frame."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.norm = spec.attention_norm(channels, spec)
        self.q = spec.conv2d(channels, channels, 1)
        self.k = spec.conv2d(channels, channels, 1)
        self.v = spec.conv2d(channels, channels, 1)
        self.proj_out = spec.conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        h = self.norm(x, context)
        query, key, value = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(query, key, value)
        return x + self.proj_out(h.squeeze(1).transpose(1, 2).reshape(x.shape))  # in x's memory layout


class Downsample(nn.Module):
    """Halves height and width; pads right and bottom only."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv = spec.conv2d(channels, channels, 3, stride=2, padding=0)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width, nearest neighbour first."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.conv = spec.conv2d(channels, channels, 3)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return by_frames(lambda frames, _: self.conv(doubled(frames)), x, context)


def doubled(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), nearest neighbour; one copy."""
    return x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).flatten(4, 5).flatten(2, 3)

"""Spatial blocks of the MoVQ autoencoder (paper section 4.3): norms, attention, resampling, and what they share.

Inside the autoencoder time is folded into the batch: every tensor is (B·T, C, H, W) and every norm is of one frame.
`FrameContext` carries what the blocks need beside the activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...kernels.elementwise import add_residual
from ...kernels.group_norms import spatial_norm
from ...kernels.kernel_choice import takes_fused
from ...kernels.wide_attention import wide_attention
from ..layers import LayerFactory, without_bias
from ..temporal import NeutralNorm, zero_weights

PORTION_NUMEL = 2**20  # numbers of an activation that by_frames takes at once


@dataclass(frozen=True)
class FrameContext:
    """What conditions a decoder block, as `TrunkCondition` a U-Net's."""

    latents: Tensor  # (B·T, C, h, w): modulate the spatial norms
    num_frames: int  # T: how the rows of an activation make videos
    temporal: bool  # False: frames are decoded as independent images, every temporal layer is skipped


@dataclass(frozen=True)
class TemporalParts:
    """Which temporal layers a decoder of Table 3 has."""

    kernel: tuple[int, int, int] | None = None  # of the 3D convolution that follows every 3×3 convolution
    attention: bool = False  # temporal attention after every spatial attention block
    residual_blocks: bool = False  # a temporal residual block after every spatial one
    inflated: bool = False  # the 3×3 convolutions themselves become 3×3×3


@dataclass(frozen=True)
class MoVQSpec:
    """What all blocks of one encoder or decoder have in common: how layers are made, sizes, norms, temporal parts."""

    layers: LayerFactory
    groups: int
    latent_channels: int
    norm: type[FrameNorm]
    attention_norms: AttentionNorms
    temporal_merge: str
    temporal: TemporalParts


def by_frames(
    function: Callable[[Tensor, FrameContext], Tensor], x: Tensor, condition: FrameContext, numel: int = PORTION_NUMEL
) -> Tensor:
    """function(x, condition), which sees single frames, for x (B·T, C, H, W): a few frames at a time.

    What lies between a norm and its convolution then never exists for the whole video, unless gradients need it; a GPU
    with the fused kernels has little between them and wants large launches.
    """
    size = max(numel // x[0].numel(), 1)
    if len(x) <= size or torch.is_grad_enabled() or takes_fused(x):
        return function(x, condition)
    output = None
    for start in range(0, len(x), size):
        portion = replace(condition, latents=condition.latents[start : start + size])
        result = function(x[start : start + size], portion)
        if output is None:
            output = result.new_empty((len(x), *result.shape[1:]))
        output[start : start + size] = result
    assert output is not None
    return output


class FrameNorm(NeutralNorm):
    """Group norm of each frame; the encoder's."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.norm_layer = spec.layers.group_norm(spec.groups, channels, eps=1e-6)

    def forward(
        self, x: Tensor, condition: FrameContext, silu: bool = False, input_bias: Tensor | None = None
    ) -> Tensor:
        """x (N, C, H, W) + input_bias (C,), normalised; through SiLU if `silu`."""
        return self.norm_layer(x, silu, input_bias)

    @torch.no_grad()
    def make_neutral(self) -> None:
        self.norm_layer.weight.fill_(1.0)
        self.norm_layer.bias.zero_()


class SpatialNorm(FrameNorm):
    """Group norm modulated by the frame's own latent: norm(x) · conv_y(z) + conv_b(z) (MoVQ).

    The 1×1 convolutions run at the latent's size: they commute with nearest-neighbour resizing.
    """

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__(channels, spec)
        self.conv_y = spec.layers.conv2d(spec.latent_channels, channels, 1)
        self.conv_b = spec.layers.conv2d(spec.latent_channels, channels, 1)

    def forward(
        self, x: Tensor, condition: FrameContext, silu: bool = False, input_bias: Tensor | None = None
    ) -> Tensor:
        scale, shift = self.modulation(condition)
        return spatial_norm(x, self.norm_layer.spec(x), scale, shift, silu, input_bias)

    def modulation(self, condition: FrameContext) -> tuple[Tensor, Tensor]:
        """Scale and shift (R, C, h, w) at the latents' size, a row for every frame or for every video."""
        latents = self.modulating(condition)
        return self.conv_y(latents), self.conv_b(latents)

    def modulating(self, condition: FrameContext) -> Tensor:
        """The latents (R, c, h, w) that modulate: of every frame."""
        return condition.latents

    @torch.no_grad()
    def make_neutral(self) -> None:
        """Scale one and shift zero, whatever the latents."""
        super().make_neutral()
        zero_weights(self.conv_y)
        zero_weights(self.conv_b)
        self.conv_y.get_parameter("bias").fill_(1.0)


class FirstFrameNorm(SpatialNorm):
    """The first frame's latent modulates all frames of the chunk, as in the official 1.1 code's spatial attention.

    Its checkpoints expect that, though every frame has a latent of its own ("per_frame").
    """

    def modulating(self, condition: FrameContext) -> Tensor:
        return condition.latents[:: condition.num_frames] if condition.temporal else condition.latents


class UnmodulatedNorm(SpatialNorm):
    """Has the modulation's weights and does not use them, as the official 1.1 code does in temporal attention."""

    def forward(
        self, x: Tensor, condition: FrameContext, silu: bool = False, input_bias: Tensor | None = None
    ) -> Tensor:
        return self.norm_layer(x, silu, input_bias)


@dataclass(frozen=True)
class AttentionNorms:
    """The norms in front of spatial and of temporal attention."""

    spatial: type[FrameNorm]
    temporal: type[FrameNorm]


ENCODER_NORMS = AttentionNorms(FrameNorm, FrameNorm)
ATTENTION_NORMS: dict[str, AttentionNorms] = {
    "first_frame": AttentionNorms(FirstFrameNorm, UnmodulatedNorm),
    "per_frame": AttentionNorms(SpatialNorm, SpatialNorm),
}
"""The decoder's, by `attention_norm`: as the official 1.1 code has them, or every frame by its own latent."""


class AttentionBlock(nn.Module):
    """Single-head self-attention over the positions of each frame."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.norm = spec.attention_norms.spatial(channels, spec)
        self.q = spec.layers.conv2d(channels, channels, 1)
        self.k = spec.layers.conv2d(channels, channels, 1)
        self.v = spec.layers.conv2d(channels, channels, 1)
        self.proj_out = spec.layers.conv2d(channels, channels, 1)

    def forward(self, x: Tensor, condition: FrameContext) -> Tensor:
        h = self.norm(x, condition)
        query, key, value = (layer(h).flatten(2).transpose(1, 2).unsqueeze(1) for layer in (self.q, self.k, self.v))
        h = wide_attention(query, key, value).squeeze(1)
        return add_residual(x, self.proj_out(h.transpose(1, 2).reshape(x.shape)))  # in x's memory layout


class Downsample(nn.Module):
    """Halves height and width; pads right and bottom only, as the official code (VQGAN's) does."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.conv = spec.layers.conv2d(channels, channels, 3, stride=2, padding=0)

    def forward(self, x: Tensor, condition: FrameContext) -> tuple[Tensor, Tensor | None]:
        """x (N, C, H / 2, W / 2), and the bias (C,) that is still to be added to it."""
        return without_bias(self.conv, F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width, nearest neighbour first."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.conv = spec.layers.conv2d(channels, channels, 3)

    def forward(self, x: Tensor, condition: FrameContext) -> tuple[Tensor, Tensor | None]:
        """x (N, C, 2H, 2W), and the bias (C,) that is still to be added to it."""
        if takes_fused(x):  # all frames at once
            return without_bias(self.conv, repeat_pixels(x))
        return by_frames(lambda frames, _: self.conv(repeat_pixels(frames)), x, condition), None


def repeat_pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, 2H, 2W), nearest neighbour; one copy, channels-last where the fused kernels run."""
    if takes_fused(x):
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2).flatten(4, 5).flatten(2, 3)

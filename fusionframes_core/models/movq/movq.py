"""The MoVQ autoencoder (paper section 4.3): image encoder, and the image or video decoder.

Names of modules are those of the official code, so that its checkpoints load but for a few renames.
"""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import MoVQConfig
from ...errors import named
from ...kernels.elementwise import MERGES
from ..layers import LayerFactory, TorchOperations, without_bias
from ..layout import fold_frames, unfold_frames
from ..temporal import Skip, initialise_temporal, temporal_parameters
from .movq_blocks import (
    ATTENTION_NORMS,
    ENCODER_NORMS,
    AttentionBlock,
    Downsample,
    FrameContext,
    FrameNorm,
    MoVQSpec,
    SpatialNorm,
    Upsample,
    by_frames,
)
from .movq_temporal import DECODERS, frames_are_independent, make_resnet, make_temporal_attention, make_temporal_block

LATENT_ACTIVATIONS = {"none": nn.Identity, "tanh": nn.Tanh}


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.block_1 = make_resnet(channels, channels, spec)
        self.attn_1 = AttentionBlock(channels, spec)
        self.temporal_attn_1 = make_temporal_attention(channels, spec)
        self.temporal_block_1 = make_temporal_block(channels, spec)
        self.block_2 = make_resnet(channels, channels, spec)
        self.temporal_block_2 = make_temporal_block(channels, spec)

    def forward(self, x: Tensor, condition: FrameContext, bias: Tensor | None = None) -> Tensor:
        """x (N, C, H, W), to which `bias` (C,) is still to be added, shape kept."""
        first, *others = self.children()
        x = first(x, condition, bias)
        for layer in others:
            x = layer(x, condition)
        return x


class Level(nn.Module):
    """Residual blocks of one resolution, each with its attention and temporal layers.

    channels: into the first block, then out of every block.
    """

    def __init__(self, channels: list[int], attention: bool, spec: MoVQSpec) -> None:
        super().__init__()
        widths = channels[1:]
        self.block = nn.ModuleList(make_resnet(i, o, spec) for i, o in pairwise(channels))
        self.temporal_block = nn.ModuleList(make_temporal_block(width, spec) for width in widths)
        self.attn = nn.ModuleList(AttentionBlock(width, spec) if attention else Skip() for width in widths)
        self.temporal_attn = nn.ModuleList(
            make_temporal_attention(width, spec) if attention else Skip() for width in widths
        )

    def forward(self, x: Tensor, condition: FrameContext, bias: Tensor | None = None) -> Any:
        """x (N, C, H, W), to which `bias` (C,) is still to be added, to (N, C', H, W)."""
        for block, *others in zip(self.block, self.temporal_block, self.attn, self.temporal_attn, strict=True):
            x, bias = block(x, condition, bias), None
            for layer in others:
                x = layer(x, condition)
        return x


class DownLevel(Level):
    """A level of the encoder, halved at its end when `resample`."""

    def __init__(self, channels: list[int], attention: bool, resample: bool, spec: MoVQSpec) -> None:
        super().__init__(channels, attention, spec)
        self.downsample = Downsample(channels[-1], spec) if resample else Skip()

    def forward(self, x: Tensor, condition: FrameContext, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (N, C, H, W) to (N, C', H', W'); with each the bias (C,) that is still to be added to it."""
        x = super().forward(x, condition, bias)
        return self.downsample(x, condition) if isinstance(self.downsample, Downsample) else (x, None)


class UpLevel(Level):
    """A level of the decoder, doubled at its end when `resample`."""

    def __init__(self, channels: list[int], attention: bool, resample: bool, spec: MoVQSpec) -> None:
        super().__init__(channels, attention, spec)
        self.upsample = Upsample(channels[-1], spec) if resample else Skip()

    def forward(self, x: Tensor, condition: FrameContext, bias: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x (N, C, H, W) to (N, C', H', W'); with each the bias (C,) that is still to be added to it."""
        x = super().forward(x, condition, bias)
        return self.upsample(x, condition) if isinstance(self.upsample, Upsample) else (x, None)


class Encoder(nn.Module):
    """(N, 3, H, W) pixels -> (N, C, h, w); knows single frames only."""

    def __init__(self, config: MoVQConfig, spec: MoVQSpec) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = [config.channels * mult for mult in config.channel_mult]
        self.conv_in = spec.layers.conv2d(3 * config.patch_size**2, config.channels, 3)
        self.down = nn.ModuleList()
        width = config.channels
        for index, out in enumerate(widths):
            channels = [width] + [out] * config.num_res_blocks
            self.down.append(DownLevel(channels, index in config.attention_levels, index + 1 < len(widths), spec))
            width = out
        self.mid = Middle(width, spec)
        self.norm_out = spec.norm(width, spec)
        self.conv_out = spec.layers.conv2d(width, config.latent_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        condition = FrameContext(latents=x, num_frames=1, temporal=False)  # no norm of the encoder looks at the latents
        x, bias = without_bias(self.conv_in, F.pixel_unshuffle(x, self.patch_size))
        for level in self.down:
            x, bias = level(x, condition, bias)
        x = self.mid(x, condition, bias)
        return self.conv_out(self.norm_out(x, condition, silu=True))


class Decoder(nn.Module):
    """(B·T, C, h, w) -> (B·T, 3, H, W), modulated by the latents of the condition."""

    def __init__(self, config: MoVQConfig, spec: MoVQSpec) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = [config.channels * mult for mult in config.channel_mult]
        width = widths[-1]
        self.conv_in = spec.layers.conv2d(config.latent_channels, width, 3)
        self.mid = Middle(width, spec)
        levels = []
        for index, out in reversed(list(enumerate(widths))):
            channels = [width] + [out] * (config.num_res_blocks + 1)
            levels.append(UpLevel(channels, index in config.attention_levels, index > 0, spec))
            width = out
        self.up = nn.ModuleList(reversed(levels))  # numbered like the encoder's: 0 is the highest resolution
        self.norm_out = spec.norm(width, spec)
        self.conv_out = spec.layers.conv2d(width, 3 * config.patch_size**2, 3)

    def forward(self, x: Tensor, condition: FrameContext) -> Tensor:
        x, bias = without_bias(self.conv_in, x)
        x, bias = self.mid(x, condition, bias), None
        for level in reversed(self.up):
            x, bias = level(x, condition, bias)
        assert bias is None, "the last level does not resample"
        x = by_frames(lambda frames, portion: self.conv_out(self.norm_out(frames, portion, silu=True)), x, condition)
        return F.pixel_shuffle(x, self.patch_size)


class MoVQ(nn.Module):
    """Image encoder and image or video decoder; `config.decoder` names a decoder of Table 3."""

    def __init__(
        self,
        config: MoVQConfig,
        operations: Any = TorchOperations,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Raises ValueError for a choice that the config's tables do not know."""
        super().__init__()
        check_config(config)
        self.config = config
        encoder_spec = MoVQSpec(
            layers=LayerFactory(operations, device, dtype),
            groups=config.groups,
            latent_channels=config.latent_channels,
            norm=FrameNorm,
            attention_norms=ENCODER_NORMS,
            temporal_merge=config.temporal_merge,
            temporal=DECODERS["image"],
        )
        self.encoder = Encoder(config, encoder_spec)
        self.quant_conv = encoder_spec.layers.conv2d(config.latent_channels, config.latent_channels, 1)
        self.latent_activation = LATENT_ACTIVATIONS[config.latent_activation]()
        self.post_quant_conv = encoder_spec.layers.conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config, decoder_spec(config, encoder_spec))

    @property
    def factor(self) -> int:
        """Pixels per latent position along height and along width."""
        return self.config.patch_size * 2 ** (len(self.config.channel_mult) - 1)

    @property
    def frames_are_independent(self) -> bool:
        """True when no frame's pixels depend on another frame's latents."""
        return frames_are_independent(self.decoder)

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, T, H, W) in [-1, 1] -> latents (B, C, T, H / factor, W / factor).

        Frames are encoded independently. Raises ValueError for another shape.
        """
        if pixels.ndim != 5 or pixels.shape[1] != 3:
            raise ValueError(f"pixels must be (B, 3, T, H, W); got {tuple(pixels.shape)}")
        if pixels.shape[-2] % self.factor or pixels.shape[-1] % self.factor:
            size = f"{pixels.shape[-2]}x{pixels.shape[-1]}"
            raise ValueError(f"height and width must be multiples of {self.factor}; got {size}")
        latents = self.quant_conv(self.encoder(fold_frames(pixels)))
        return unfold_frames(self.latent_activation(latents), pixels.shape[2])

    def decode(self, latents: Tensor, temporal: bool = True) -> Tensor:
        """latents (B, C, T, h, w) -> pixels (B, 3, T, h · factor, w · factor), about [-1, 1] and not clamped.

        temporal=False skips every temporal layer: the frames are decoded as independent images.
        Raises ValueError for another shape.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.latent_channels:
            raise ValueError(f"latents must be (B, {self.config.latent_channels}, T, h, w); got {tuple(latents.shape)}")
        frames = fold_frames(latents)
        condition = FrameContext(latents=frames, num_frames=latents.shape[2], temporal=temporal)
        return unfold_frames(self.decoder(self.post_quant_conv(frames), condition), latents.shape[2])


def decoder_spec(config: MoVQConfig, encoder_spec: MoVQSpec) -> MoVQSpec:
    """The decoder's blocks: as the encoder's, with modulated norms and the temporal parts of Table 3."""
    return dataclasses.replace(
        encoder_spec,
        norm=SpatialNorm,
        attention_norms=ATTENTION_NORMS[config.attention_norm],
        temporal=DECODERS[config.decoder],
    )


def check_config(config: MoVQConfig) -> None:
    """Raise ValueError for a choice that the tables do not know and for sizes that do not fit together."""
    tables: dict[str, Any] = {
        "decoder": DECODERS,
        "attention_norm": ATTENTION_NORMS,
        "temporal_merge": MERGES,
        "latent_activation": LATENT_ACTIVATIONS,
    }
    for field, table in tables.items():
        named(table, field, getattr(config, field))
    outside = [level for level in config.attention_levels if not 0 <= level < len(config.channel_mult)]
    if outside:
        raise ValueError(f"attention_levels must index channel_mult {config.channel_mult}; got {outside}")
    odd = [mult * config.channels for mult in config.channel_mult if mult * config.channels % config.groups]
    if odd:
        raise ValueError(f"groups {config.groups} must divide the channels of every level; got {odd}")
    if config.patch_size < 1:
        raise ValueError(f"patch_size must be at least 1; got {config.patch_size}")


@torch.no_grad()
def inflate_movq(image_movq: MoVQ, config: MoVQConfig, generator: torch.Generator | None = None) -> MoVQ:
    """A video autoencoder from an image one: its weights are copied, the temporal parts start as identities.

    2D kernels become the central slice of 3D ones (`conv2d_to_3d`). The result is where the image autoencoder is, in
    its type; `generator` as for `initialise_temporal`. Raises ValueError when the sizes differ.
    """
    example = image_movq.quant_conv.weight
    movq = MoVQ(config, device=example.device, dtype=example.dtype)
    initialise_temporal(movq, generator)
    source, target = image_movq.state_dict(), movq.state_dict()
    places = {name: _image_part(target[name], weight.ndim) for name, weight in source.items() if name in target}
    added = {name for name, _ in temporal_parameters(movq)}
    problems = {
        "missing": [name for name in target if name not in source and name not in added],
        "unexpected": [name for name in source if name not in target],
        "of another shape": [name for name, place in places.items() if place.shape != source[name].shape],
    }
    if any(problems.values()):
        raise ValueError(f"the image autoencoder does not fit the config: {problems}")
    for name, place in places.items():
        place.copy_(source[name])
    return movq


def _image_part(weight: Tensor, ndim: int) -> Tensor:
    """The view of `weight` that an image weight of `ndim` axes goes to: all of it, or a 3D kernel's central slice."""
    return weight[:, :, weight.shape[2] // 2] if weight.ndim == 5 and ndim == 4 else weight

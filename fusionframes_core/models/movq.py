"""The MoVQ autoencoder (paper section 4.3): image encoder, and the image or video decoder.

Names of modules are those of the official code, so that its checkpoints load but for a few renames.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import MoVQConfig
from .layers import TorchOperations
from .movq_blocks import (
    ATTENTION_NORMS,
    AttentionBlock,
    BlockSpec,
    Downsample,
    FrameContext,
    FrameNorm,
    Skip,
    SpatialNorm,
    Upsample,
    fold_frames,
    unfold_frames,
)
from .movq_temporal import (
    DECODERS,
    MERGES,
    has_temporal_parts,
    initialise_temporal,
    make_resnet,
    make_temporal_attention,
    make_temporal_block,
    temporal_parameters,
)

__all__ = ["DECODERS", "MoVQ", "inflate_movq", "initialise_temporal", "temporal_parameters"]

LATENT_ACTIVATIONS = {"none": nn.Identity, "tanh": nn.Tanh}


class Middle(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.block_1 = make_resnet(channels, channels, spec)
        self.attn_1 = AttentionBlock(channels, spec)
        self.temporal_attn_1 = make_temporal_attention(channels, spec)
        self.temporal_block_1 = make_temporal_block(channels, spec)
        self.block_2 = make_resnet(channels, channels, spec)
        self.temporal_block_2 = make_temporal_block(channels, spec)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        for layer in self.children():
            x = layer(x, context)
        return x


class Level(nn.Module):
    """Residual blocks of one resolution, each with its attention and temporal layers."""

    def __init__(self, channels: list[int], attention: bool, spec: BlockSpec) -> None:
        super().__init__()
        widths = channels[1:]
        self.block = nn.ModuleList(make_resnet(i, o, spec) for i, o in zip(channels, widths, strict=False))
        self.temporal_block = nn.ModuleList(make_temporal_block(width, spec) for width in widths)
        self.attn = nn.ModuleList(AttentionBlock(width, spec) if attention else Skip() for width in widths)
        self.temporal_attn = nn.ModuleList(
            make_temporal_attention(width, spec) if attention else Skip() for width in widths
        )

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        for layers in zip(self.block, self.temporal_block, self.attn, self.temporal_attn, strict=True):
            for layer in layers:
                x = layer(x, context)
        return x


class Encoder(nn.Module):
    """(N, 3, H, W) pixels -> (N, C, h, w); knows single frames only."""

    def __init__(self, config: MoVQConfig, spec: BlockSpec) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = [config.channels * mult for mult in config.channel_mult]
        self.conv_in = spec.conv2d(3 * config.patch_size**2, config.channels, 3)
        self.down = nn.ModuleList()
        width = config.channels
        for index, out in enumerate(widths):
            level = Level([width] + [out] * config.num_res_blocks, index in config.attention_levels, spec)
            level.downsample = Downsample(out, spec) if index + 1 < len(widths) else Skip()
            self.down.append(level)
            width = out
        self.mid = Middle(width, spec)
        self.norm_out = spec.norm(width, spec)
        self.conv_out = spec.conv2d(width, config.latent_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        context = FrameContext(latents=x, num_frames=1, temporal=False)  # no norm of the encoder looks at the latents
        x = self.conv_in(F.pixel_unshuffle(x, self.patch_size))
        for level in self.down:
            x = level.downsample(level(x, context), context)
        x = self.mid(x, context)
        return self.conv_out(F.silu(self.norm_out(x, context)))


class Decoder(nn.Module):
    """(B·T, C, h, w) -> (B·T, 3, H, W), modulated by the latents of the context."""

    def __init__(self, config: MoVQConfig, spec: BlockSpec) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        widths = [config.channels * mult for mult in config.channel_mult]
        width = widths[-1]
        self.conv_in = spec.conv2d(config.latent_channels, width, 3)
        self.mid = Middle(width, spec)
        levels = []
        for index, out in reversed(list(enumerate(widths))):
            level = Level([width] + [out] * (config.num_res_blocks + 1), index in config.attention_levels, spec)
            level.upsample = Upsample(out, spec) if index else Skip()
            levels.append(level)
            width = out
        self.up = nn.ModuleList(reversed(levels))  # numbered like the encoder's: 0 is the highest resolution
        self.norm_out = spec.norm(width, spec)
        self.conv_out = spec.conv2d(width, 3 * config.patch_size**2, 3)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        x = self.mid(self.conv_in(x), context)
        for level in reversed(self.up):
            x = level.upsample(level(x, context), context)
        x = self.conv_out(F.silu(self.norm_out(x, context)))
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
        _check(config)
        self.config = config
        encoder_spec = BlockSpec(
            operations=operations,
            device=device,
            dtype=dtype,
            groups=config.groups,
            latent_channels=config.latent_channels,
            norm=FrameNorm,
            attention_norm=FrameNorm,
            temporal_attention_norm=FrameNorm,
            temporal_merge=config.temporal_merge,
            temporal=DECODERS["image"],
        )
        self.encoder = Encoder(config, encoder_spec)
        self.quant_conv = encoder_spec.conv2d(config.latent_channels, config.latent_channels, 1)
        self.latent_activation = LATENT_ACTIVATIONS[config.latent_activation]()
        self.post_quant_conv = encoder_spec.conv2d(config.latent_channels, config.latent_channels, 1)
        self.decoder = Decoder(config, decoder_spec(config, encoder_spec))

    @property
    def factor(self) -> int:
        """Pixels per latent position along height and along width."""
        return self.config.patch_size * 2 ** (len(self.config.channel_mult) - 1)

    @property
    def has_temporal_parts(self) -> bool:
        """False for the image decoder, whose frames do not see each other."""
        return has_temporal_parts(self.decoder)

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
            raise ValueError(
                f"latents must be (B, {self.config.latent_channels}, T, h, w); got {tuple(latents.shape)}"
            )
        frames = fold_frames(latents)
        context = FrameContext(latents=frames, num_frames=latents.shape[2], temporal=temporal)
        return unfold_frames(self.decoder(self.post_quant_conv(frames), context), latents.shape[2])


def decoder_spec(config: MoVQConfig, encoder_spec: BlockSpec) -> BlockSpec:
    """The decoder's blocks: as the encoder's, with modulated norms and the temporal parts of Table 3."""
    attention_norm, temporal_attention_norm = ATTENTION_NORMS[config.attention_norm]
    return dataclasses.replace(
        encoder_spec,
        norm=SpatialNorm,
        attention_norm=attention_norm,
        temporal_attention_norm=temporal_attention_norm,
        temporal=DECODERS[config.decoder],
    )


def _check(config: MoVQConfig) -> None:
    tables: dict[str, Any] = {
        "decoder": DECODERS,
        "attention_norm": ATTENTION_NORMS,
        "temporal_merge": MERGES,
        "latent_activation": LATENT_ACTIVATIONS,
    }
    for field, table in tables.items():
        if getattr(config, field) not in table:
            raise ValueError(f"{field} must be one of {', '.join(table)}; got {getattr(config, field)!r}")
    outside = [level for level in config.attention_levels if not 0 <= level < len(config.channel_mult)]
    if outside:
        raise ValueError(f"attention_levels must index channel_mult {config.channel_mult}; got {outside}")
    odd = [mult * config.channels for mult in config.channel_mult if mult * config.channels % config.groups]
    if odd:
        raise ValueError(f"groups {config.groups} must divide the channels of every level; got {odd}")
    if config.patch_size < 1:
        raise ValueError(f"patch_size must be at least 1; got {config.patch_size}")


@torch.no_grad()
def inflate_movq(
    image_movq: MoVQ,
    config: MoVQConfig,
    operations: Any = TorchOperations,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> MoVQ:
    """A video autoencoder from an image one: its weights are copied, the temporal parts start as identities.

    2D kernels become the central slice of 3D ones (`conv2d_to_3d`). Raises ValueError when the sizes differ.
    """
    movq = MoVQ(config, operations, device, dtype)
    initialise_temporal(movq)
    source, target = image_movq.state_dict(), movq.state_dict()
    temporal = {name for name, _ in temporal_parameters(movq)}
    missing = [name for name in target if name not in source and name not in temporal]
    unknown = [name for name in source if name not in target]
    wrong = [name for name in source if name in target and source[name].shape not in _shapes(target[name])]
    if missing or unknown or wrong:
        raise ValueError(f"the image autoencoder does not fit: missing {missing}, unknown {unknown}, other shape {wrong}")
    for name, weight in source.items():
        (target[name] if weight.shape == target[name].shape else target[name][:, :, target[name].shape[2] // 2]).copy_(
            weight
        )
    return movq


def _shapes(weight: Tensor) -> tuple[torch.Size, ...]:
    """Shapes that inflation can copy into `weight`: its own and, for a 3D kernel, that of one slice."""
    return (weight.shape, weight[:, :, 0].shape) if weight.ndim == 5 else (weight.shape,)

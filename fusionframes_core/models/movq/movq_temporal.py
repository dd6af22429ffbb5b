"""Temporal layers of the MoVQ video decoders (paper section 4.3, Table 3), and the residual blocks that hold them.

`DECODERS` says which layers each decoder of Table 3 has. Every temporal layer obeys `FrameContext.temporal`, so that a
video decoder can also decode frames as its image decoder does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ...kernels.elementwise import MERGES, add_bias, add_residual
from ...kernels.kernel_choice import takes_fused
from ...kernels.wide_attention import wide_attention
from ..layers import bias_behind, without_bias
from ..layout import over_time_without_bias
from ..temporal import Skip, TemporalConvolution, TemporalLayer, TemporalPart, is_absent
from .movq_blocks import FirstFrameNorm, FrameContext, FrameNorm, MoVQSpec, TemporalParts, by_frames

DECODERS: dict[str, TemporalParts] = {
    "image": TemporalParts(),
    "conv1": TemporalParts(kernel=(3, 1, 1)),
    "conv3": TemporalParts(kernel=(3, 3, 3)),
    "conv1_attn": TemporalParts(kernel=(3, 1, 1), attention=True),
    "conv3_attn": TemporalParts(kernel=(3, 3, 3), attention=True),
    "resnet_attn": TemporalParts(residual_blocks=True, attention=True),
    "conv2d_to_3d": TemporalParts(inflated=True),
}


class TemporalConv(TemporalConvolution[FrameContext]):
    """A 3D convolution merged with its input by a learned α."""

    def __init__(self, channels: int, kernel: tuple[int, int, int], spec: MoVQSpec) -> None:
        super().__init__()
        self.projection = spec.layers.conv3d(channels, channels, kernel)
        self.merge = spec.layers.alpha()
        self.merge_rule = MERGES[spec.temporal_merge]

    def mix_frames(self, x: Tensor, condition: FrameContext, bias: Tensor | None = None) -> Tensor:
        out, behind = over_time_without_bias(self.projection, x, condition.num_frames, bias)
        return self.merge_rule(x, out, self.merge(x), behind, past=bias)

    def zero_layers(self) -> list[nn.Module]:
        """α; the convolution stays random, else α's gradient would be zero with the "residual" merge."""
        return [self.merge]


class TemporalAttention(TemporalLayer[FrameContext]):
    """Single-head self-attention over the frames at each position."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.norm = spec.attention_norms.temporal(channels, spec)
        self.q = spec.layers.conv2d(channels, channels, 1)
        self.k = spec.layers.conv2d(channels, channels, 1)
        self.v = spec.layers.conv2d(channels, channels, 1)
        self.proj_out = spec.layers.conv2d(channels, channels, 1)

    def mix_frames(self, x: Tensor, condition: FrameContext) -> Tensor:
        height, width = x.shape[-2:]
        h = self.norm(x, condition)
        # Positions stand where attention has its heads.
        query, key, value = (
            rearrange(layer(h), "(b t) c h w -> b (h w) t c", t=condition.num_frames)
            for layer in (self.q, self.k, self.v)
        )
        h = wide_attention(query, key, value)
        return add_residual(x, self.proj_out(rearrange(h, "b (h w) t c -> (b t) c h w", h=height, w=width)))

    def drawn_layers(self) -> list[nn.Module]:
        """All but the norm's, which starts neutral."""
        return [self.q, self.k, self.v, self.proj_out]

    def zero_layers(self) -> list[nn.Module]:
        return [self.proj_out]


class TemporalResnetBlock(TemporalLayer[FrameContext]):
    """A residual block whose convolutions are 3×1×1."""

    def __init__(self, channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.norm1 = spec.norm(channels, spec)
        self.conv1 = spec.layers.conv3d(channels, channels, (3, 1, 1))
        self.norm2 = spec.norm(channels, spec)
        self.conv2 = spec.layers.conv3d(channels, channels, (3, 1, 1))

    def mix_frames(self, x: Tensor, condition: FrameContext) -> Tensor:
        h, bias = over_time_without_bias(self.conv1, self.norm1(x, condition, silu=True), condition.num_frames)
        h = self.norm2(h, condition, silu=True, input_bias=bias)
        h, bias = over_time_without_bias(self.conv2, h, condition.num_frames)
        return add_residual(x, h, bias)

    def drawn_layers(self) -> list[nn.Module]:
        """All but the norms', which start neutral."""
        return [self.conv1, self.conv2]

    def zero_layers(self) -> list[nn.Module]:
        return [self.conv2]


class ResnetBlock(nn.Module):
    """Residual block: twice norm, SiLU, 3×3 convolution, and what the decoder puts behind each convolution."""

    def __init__(self, in_channels: int, out_channels: int, spec: MoVQSpec) -> None:
        super().__init__()
        self.norm1 = spec.norm(in_channels, spec)
        self.conv1 = self.make_conv(in_channels, out_channels, spec)
        self.temporal1 = make_temporal_conv(out_channels, spec)
        self.norm2 = spec.norm(out_channels, spec)
        self.conv2 = self.make_conv(out_channels, out_channels, spec)
        self.temporal2 = make_temporal_conv(out_channels, spec)
        same = in_channels == out_channels
        self.nin_shortcut = nn.Identity() if same else spec.layers.conv2d(in_channels, out_channels, 1)

    @staticmethod
    def make_conv(in_channels: int, out_channels: int, spec: MoVQSpec) -> nn.Module:
        return spec.layers.conv2d(in_channels, out_channels, 3)

    def convolve(
        self, conv: nn.Module, norm: FrameNorm, x: Tensor, condition: FrameContext, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """conv(silu(norm(x + bias))), a few frames at a time, and the bias (C,) that is still to be added to it."""
        if takes_fused(x):  # all frames at once
            return without_bias(conv, norm(x, condition, silu=True, input_bias=bias))
        x = add_bias(x, bias)
        return by_frames(lambda frames, portion: conv(norm(frames, portion, silu=True)), x, condition), None

    def forward(self, x: Tensor, condition: FrameContext, bias: Tensor | None = None) -> Tensor:
        """x (B·T, C, H, W), to which `bias` (C,) is still to be added, to (B·T, C', H, W)."""
        h, own = self.convolve(self.conv1, self.norm1, x, condition, bias)
        if not is_absent(self.temporal1, condition):
            h, own = self.temporal1.past(h, condition, own)
        h, own = self.convolve(self.conv2, self.norm2, h, condition, own)
        if not is_absent(self.temporal2, condition):
            h, own = self.temporal2.past(h, condition, own)
        behind = bias_behind(self.nin_shortcut, bias)  # what the bias of x becomes on the shortcut
        own = behind if own is None else own if behind is None else own + behind
        return add_residual(self.nin_shortcut(x), h, own)


class InflatedResnetBlock(ResnetBlock, TemporalPart):
    """The residual block of `conv2d_to_3d`: its convolutions are 3×3×3.

    Without time each frame is convolved alone, which by the zero padding uses the kernels' central slice only.
    """

    @staticmethod
    def make_conv(in_channels: int, out_channels: int, spec: MoVQSpec) -> nn.Module:
        return spec.layers.conv3d(in_channels, out_channels, (3, 3, 3))

    def convolve(
        self, conv: nn.Module, norm: FrameNorm, x: Tensor, condition: FrameContext, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        h = norm(x, condition, silu=True, input_bias=bias)
        return over_time_without_bias(conv, h, condition.num_frames if condition.temporal else 1)

    def temporal_parameters(self, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
        """Those of the inflated convolutions; the norms and the shortcut are the image decoder's."""
        yield from self.conv1.named_parameters(f"{prefix}.conv1")
        yield from self.conv2.named_parameters(f"{prefix}.conv2")

    def zero_layers(self) -> list[nn.Module]:
        """None: the central slices are the image decoder's."""
        return []

    @torch.no_grad()
    def initialise_identity(self, generator: torch.Generator | None = None) -> None:
        """Zero every slice of the kernels but the central one, which is the image decoder's; nothing is drawn."""
        for conv in (self.conv1, self.conv2):
            conv.get_parameter("weight")[:, :, ::2] = 0.0


def make_resnet(in_channels: int, out_channels: int, spec: MoVQSpec) -> ResnetBlock:
    """The spatial residual block of this decoder."""
    block = InflatedResnetBlock if spec.temporal.inflated else ResnetBlock
    return block(in_channels, out_channels, spec)


def make_temporal_conv(channels: int, spec: MoVQSpec) -> Any:
    """What follows a 3×3 convolution."""
    return TemporalConv(channels, spec.temporal.kernel, spec) if spec.temporal.kernel else Skip()


def make_temporal_block(channels: int, spec: MoVQSpec) -> nn.Module:
    """What follows a residual block."""
    return TemporalResnetBlock(channels, spec) if spec.temporal.residual_blocks else Skip()


def make_temporal_attention(channels: int, spec: MoVQSpec) -> nn.Module:
    """What follows a spatial attention block."""
    return TemporalAttention(channels, spec) if spec.temporal.attention else Skip()


def frames_are_independent(model: nn.Module) -> bool:
    """Whether no layer of `model` looks across frames."""
    return not any(isinstance(module, TemporalPart | FirstFrameNorm) for module in model.modules())

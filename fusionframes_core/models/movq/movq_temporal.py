"""Temporal layers of the MoVQ video decoders (paper section 4.3, Table 3), and the residual blocks that hold them.

`DECODERS` says which layers each decoder of Table 3 has. Every temporal layer obeys `FrameContext.temporal`: False
makes it an identity, so that a video decoder can also decode frames as its image decoder does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import add_scaled, blend, plus, silu
from .movq_blocks import (
    BlockSpec,
    FirstFrameNorm,
    FrameContext,
    FrameNorm,
    Skip,
    SpatialNorm,
    TemporalParts,
    by_frames,
    fold_frames,
    unfold_frames,
)

DECODERS: dict[str, TemporalParts] = {
    "image": TemporalParts(),
    "conv1": TemporalParts(kernel=(3, 1, 1)),
    "conv3": TemporalParts(kernel=(3, 3, 3)),
    "conv1_attn": TemporalParts(kernel=(3, 1, 1), attention=True),
    "conv3_attn": TemporalParts(kernel=(3, 3, 3), attention=True),
    "resnet_attn": TemporalParts(residual_blocks=True, attention=True),
    "conv2d_to_3d": TemporalParts(inflated=True),
}

# MoVQConfig.temporal_merge -> (spatial, temporal, α) -> merged
MERGES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"convex": blend, "residual": add_scaled}


class TemporalLayer(nn.Module):
    """A layer over time that `FrameContext.temporal` switches."""

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        return self.over_time(x, context) if context.temporal else x

    def over_time(self, x: Tensor, context: FrameContext) -> Tensor:
        """(B·T, C, H, W) -> the same shape."""
        raise NotImplementedError

    def initialise(self, generator: torch.Generator | None) -> None:
        """Make this layer an identity that can still be trained."""
        raise NotImplementedError


class TemporalConv(TemporalLayer):
    """A 3D convolution merged with its input by a learned α."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        assert spec.temporal.kernel is not None
        self.projection = spec.conv3d(channels, channels, spec.temporal.kernel)
        self.merge = spec.operations.Alpha(device=spec.device, dtype=spec.dtype)
        self.merge_rule = MERGES[spec.temporal_merge]

    def over_time(self, x: Tensor, context: FrameContext) -> Tensor:
        temporal = fold_frames(self.projection(unfold_frames(x, context.num_frames)))
        return self.merge_rule(x, temporal, self.merge(x))

    def initialise(self, generator: torch.Generator | None) -> None:
        """α = 0; the convolution stays random, else α's gradient would be zero with the "residual" merge."""
        _draw(self.projection, generator)
        nn.init.zeros_(self.merge.weight)


class TemporalAttention(TemporalLayer):
    """Single-head self-attention over the frames at each position."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.norm = spec.temporal_attention_norm(channels, spec)
        self.q = spec.conv2d(channels, channels, 1)
        self.k = spec.conv2d(channels, channels, 1)
        self.v = spec.conv2d(channels, channels, 1)
        self.proj_out = spec.conv2d(channels, channels, 1)

    def over_time(self, x: Tensor, context: FrameContext) -> Tensor:
        height, width = x.shape[-2:]
        h = self.norm(x, context)
        # (B·T, C, H, W) -> (B, H·W, T, C): positions stand where attention has its heads
        query, key, value = (
            layer(h).unflatten(0, (-1, context.num_frames)).flatten(3).permute(0, 3, 1, 2)
            for layer in (self.q, self.k, self.v)
        )
        h = F.scaled_dot_product_attention(query, key, value)
        return x + self.proj_out(h.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, (height, width)))

    def initialise(self, generator: torch.Generator | None) -> None:
        """The last layer starts at zero."""
        _reset(self, generator)
        _zero(self.proj_out)


class TemporalResnetBlock(TemporalLayer):
    """A residual block whose convolutions are 3×1×1."""

    def __init__(self, channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.norm1 = spec.norm(channels, spec)
        self.conv1 = spec.conv3d(channels, channels, (3, 1, 1))
        self.norm2 = spec.norm(channels, spec)
        self.conv2 = spec.conv3d(channels, channels, (3, 1, 1))

    def over_time(self, x: Tensor, context: FrameContext) -> Tensor:
        h = silu(self.norm1(x, context))
        h = fold_frames(self.conv1(unfold_frames(h, context.num_frames)))
        h = silu(self.norm2(h, context))
        return plus(x, fold_frames(self.conv2(unfold_frames(h, context.num_frames))))

    def initialise(self, generator: torch.Generator | None) -> None:
        """The last layer starts at zero."""
        _reset(self, generator)
        _zero(self.conv2)


class ResnetBlock(nn.Module):
    """Residual block: twice norm, SiLU, 3×3 convolution, and what the decoder puts behind each convolution."""

    def __init__(self, in_channels: int, out_channels: int, spec: BlockSpec) -> None:
        super().__init__()
        self.norm1 = spec.norm(in_channels, spec)
        self.conv1 = self.make_conv(in_channels, out_channels, spec)
        self.temporal1 = make_temporal_conv(out_channels, spec)
        self.norm2 = spec.norm(out_channels, spec)
        self.conv2 = self.make_conv(out_channels, out_channels, spec)
        self.temporal2 = make_temporal_conv(out_channels, spec)
        same = in_channels == out_channels
        self.nin_shortcut = nn.Identity() if same else spec.conv2d(in_channels, out_channels, 1)

    @staticmethod
    def make_conv(in_channels: int, out_channels: int, spec: BlockSpec) -> nn.Module:
        return spec.conv2d(in_channels, out_channels, 3)

    def convolve(self, conv: nn.Module, norm: nn.Module, x: Tensor, context: FrameContext) -> Tensor:
        """conv(silu(norm(x)))"""
        return by_frames(lambda frames, seen: conv(silu(norm(frames, seen))), x, context)

    def forward(self, x: Tensor, context: FrameContext) -> Tensor:
        h = self.convolve(self.conv1, self.norm1, x, context)
        h = self.temporal1(h, context)
        h = self.convolve(self.conv2, self.norm2, h, context)
        h = self.temporal2(h, context)
        return plus(self.nin_shortcut(x), h)


class InflatedResnetBlock(ResnetBlock):
    """The residual block of `conv2d_to_3d`: its convolutions are 3×3×3.

    Without time each frame is convolved alone, which by the zero padding uses the kernels' central slice only.
    """

    @staticmethod
    def make_conv(in_channels: int, out_channels: int, spec: BlockSpec) -> nn.Module:
        return spec.conv3d(in_channels, out_channels, (3, 3, 3))

    def convolve(self, conv: nn.Module, norm: nn.Module, x: Tensor, context: FrameContext) -> Tensor:
        h = silu(norm(x, context))
        return fold_frames(conv(unfold_frames(h, context.num_frames if context.temporal else 1)))

    def initialise(self, generator: torch.Generator | None) -> None:
        """Zero every slice of the kernels but the central one."""
        for conv in (self.conv1, self.conv2):
            conv.get_parameter("weight")[:, :, ::2] = 0.0


def make_resnet(in_channels: int, out_channels: int, spec: BlockSpec) -> ResnetBlock:
    """The spatial residual block of this decoder."""
    block = InflatedResnetBlock if spec.temporal.inflated else ResnetBlock
    return block(in_channels, out_channels, spec)


def make_temporal_conv(channels: int, spec: BlockSpec) -> nn.Module:
    """What follows a 3×3 convolution."""
    return TemporalConv(channels, spec) if spec.temporal.kernel else Skip()


def make_temporal_block(channels: int, spec: BlockSpec) -> nn.Module:
    """What follows a residual block."""
    return TemporalResnetBlock(channels, spec) if spec.temporal.residual_blocks else Skip()


def make_temporal_attention(channels: int, spec: BlockSpec) -> nn.Module:
    """What follows a spatial attention block."""
    return TemporalAttention(channels, spec) if spec.temporal.attention else Skip()


def frames_are_independent(model: nn.Module) -> bool:
    """Whether no layer of `model` looks across frames."""
    across = TemporalLayer | InflatedResnetBlock | FirstFrameNorm
    return not any(isinstance(module, across) for module in model.modules())


def temporal_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """(name, parameter) of every temporal part: what "temporal only" training trains (Table 3)."""
    for prefix, module in model.named_modules():
        if isinstance(module, TemporalLayer):
            yield from module.named_parameters(prefix)
        elif isinstance(module, InflatedResnetBlock):
            yield from module.conv1.named_parameters(f"{prefix}.conv1")
            yield from module.conv2.named_parameters(f"{prefix}.conv2")


@torch.no_grad()
def initialise_temporal(model: nn.Module, generator: torch.Generator | None = None) -> None:
    """Make every temporal part an identity: the video decoder gives the image decoder's frames (section 4.3).

    `generator` (on the CPU) draws the weights that an identity leaves free.
    """
    for module in model.modules():
        if isinstance(module, TemporalLayer | InflatedResnetBlock):
            module.initialise(generator)


def _zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def _draw(conv: nn.Module, generator: torch.Generator | None) -> None:
    """torch's default initialisation of a convolution: uniform in ±1/√(inputs per output)."""
    bound = 1 / math.sqrt(conv.get_parameter("weight")[0].numel())
    for parameter in conv.parameters():
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


def _reset(layer: TemporalLayer, generator: torch.Generator | None) -> None:
    """Draw the convolutions; norms start at scale 1, shift 0, whatever the latents."""
    for child in layer.children():
        if not isinstance(child, FrameNorm):
            _draw(child, generator)
            continue
        nn.init.ones_(child.norm_layer.weight)
        nn.init.zeros_(child.norm_layer.bias)
        if isinstance(child, SpatialNorm):
            _zero(child.conv_y)
            _zero(child.conv_b)
            nn.init.ones_(child.conv_y.bias)

"""The spatial blocks of the U-Nets and the levels they form (the official text-to-image architecture).

Inside the trunk a video is (B·T, C, H, W), channels-last in memory. Blocks may write over their input, which nobody
else may hold, and pass on with it a bias (C,) that is still to be added to it: see `pending_bias`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, TypeAlias

from einops import rearrange
from torch import Tensor, nn

from ...kernels.elementwise import add_bias, add_residual
from ..layers import without_bias
from ..layout import to_tokens
from ..pending_bias import add_product, convolved
from ..stage_memo import StageMemo, once
from ..temporal import Skip, TemporalConvolution, is_absent
from .unet_layers import Attention, ConditionalGroupNorm, FeedForward, TrunkCondition, UNetSpec


class Resample(Enum):
    """What a block does to height and width."""

    NONE = "none"
    UP = "up"  # doubles both
    DOWN = "down"  # halves both


Pending: TypeAlias = tuple[Tensor, Tensor | None]
"""(B·T, C, H, W), and the bias (C,) that is still to be added to it."""


def through(layer: nn.Module, x: Tensor, bias: Tensor | None, condition: TrunkCondition) -> Pending:
    """layer(x + bias) for a layer of one convolution, over time or within a frame, or for one that is not there."""
    if is_absent(layer, condition):
        return x, bias
    if isinstance(layer, TemporalConvolution):
        return layer.past(x, condition, bias)
    return convolved(layer, x, bias, condition.memo)


class Block(nn.Module):
    """Norm, SiLU, convolution; doubles before it or halves after it, and mixes time where the placement says so."""

    def __init__(self, inputs: int, outputs: int, kernel: int, resample: Resample, spec: UNetSpec) -> None:
        super().__init__()
        layers, placement = spec.layers, spec.placement
        up, down = resample is Resample.UP, resample is Resample.DOWN
        self.group_norm = ConditionalGroupNorm(inputs, spec)
        self.up_sample = layers.doubling(inputs) if up else nn.Identity()
        self.temporal_up = placement.resampling_layer(inputs, spec) if up else Skip()
        self.projection = layers.conv2d(inputs, outputs, kernel)
        self.temporal = placement.convolution_layer(outputs, spec)
        self.down_sample = layers.halving(outputs) if down else nn.Identity()
        self.temporal_down = placement.resampling_layer(outputs, spec) if down else Skip()

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B·T, inputs, H, W) to (B·T, outputs, H', W'); with each the bias (C,) that is still to be added to it."""
        x, bias = without_bias(self.projection, self.projected(x, condition, bias))
        for layer in (self.temporal, self.down_sample, self.temporal_down):
            x, bias = through(layer, x, bias, condition)
        return x, bias

    def projected(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None) -> Tensor:
        """What the convolution sees of x + bias."""
        x = self.up_sample(self.group_norm(x, condition.time, silu=True, input_bias=bias))
        return self.temporal_up(x, condition)

    def add_to(self, branch: Pending, residual: Pending, condition: TrunkCondition) -> Pending:
        """The sum of `residual` and of what the block makes of `branch`."""
        x, bias = residual
        if all(is_absent(layer, condition) for layer in (self.temporal, self.down_sample, self.temporal_down)):
            return add_product(x, self.projection, self.projected(branch[0], condition, branch[1]), bias)
        return add_residual(x, *self(branch[0], condition, branch[1])), bias


def past(block: nn.Module, x: Tensor, condition: TrunkCondition, bias: Tensor | None) -> Pending:
    """block(x + bias) for a block of the trunk, or for one that is not there."""
    return (x, bias) if isinstance(block, Skip) else block(x, condition, bias)


KERNELS = (1, 3, 3, 1)
RESAMPLING_BLOCK = {Resample.UP: 1, Resample.DOWN: 2}
"""Which of the four convolutions resamples: the second doubles before it, the third halves after it."""


class ResNetBlock(nn.Module):
    """Bottleneck of four `Block`s (kernels 1, 3, 3, 1) with a shortcut."""

    def __init__(self, inputs: int, outputs: int, resample: Resample, spec: UNetSpec) -> None:
        super().__init__()
        layers, placement = spec.layers, spec.placement
        hidden = max(inputs, outputs) // spec.config.compression_ratio
        widths = (inputs, hidden, hidden, hidden, outputs)
        resamples = [resample if RESAMPLING_BLOCK.get(resample) == i else Resample.NONE for i in range(len(KERNELS))]
        self.resnet_blocks = nn.ModuleList(
            Block(widths[i], widths[i + 1], kernel, resamples[i], spec) for i, kernel in enumerate(KERNELS)
        )
        up, down = resample is Resample.UP, resample is Resample.DOWN
        self.shortcut_up_sample = layers.doubling(inputs) if up else nn.Identity()
        self.temporal_up = placement.resampling_layer(inputs, spec) if up else Skip()
        self.shortcut_projection = layers.conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.shortcut_down_sample = layers.halving(outputs) if down else nn.Identity()
        self.temporal_down = placement.resampling_layer(outputs, spec) if down else Skip()
        # 1.1's code calls the layer after doubling a second time at the shortcut's end, where the one after halving
        # belongs: the one was trained that way, the other not at all.
        self.last_temporal = "temporal_up" if placement.up_twice else "temporal_down"

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Pending:
        """Of x + bias, (B·T, inputs, H, W) to (B·T, outputs, H', W')."""
        last: Any = self.resnet_blocks[-1]
        branch = x, bias
        for block in self.resnet_blocks[:-1]:
            branch = block(branch[0], condition, branch[1])
        layers = (self.shortcut_up_sample, self.temporal_up, self.shortcut_projection, self.shortcut_down_sample)
        for layer in (*layers, self.get_submodule(self.last_temporal)):
            x, bias = through(layer, x, bias, condition)
        return last.add_to(branch, (x, bias), condition)


class SelfAttentionBlock(nn.Module):
    """Attention within each frame, then a feed-forward."""

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__()
        self.in_norm = ConditionalGroupNorm(channels, spec)
        self.attention = Attention(channels, channels, channels, spec)
        self.temporal = spec.placement.attention_layer(channels, spec)
        self.out_norm = ConditionalGroupNorm(channels, spec)
        self.feed_forward = FeedForward(channels, spec)

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Pending:
        """Of x + bias, (B·T, C, H, W), shape kept."""
        tokens = to_tokens(self.in_norm(x, condition.time, input_bias=bias))
        x = self.attention.add_to(x, tokens, tokens, condition)
        x, bias = past(self.temporal, x, condition, bias)
        return self.feed_forward.add_to(x, self.out_norm(x, condition.time, input_bias=bias)), bias


class CrossAttentionBlock(nn.Module):
    """Attention of all frames of a video to its text, then a feed-forward."""

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__()
        self.in_norm = ConditionalGroupNorm(channels, spec)
        self.attention = Attention(channels, channels, spec.config.context_dim, spec)
        self.out_norm = ConditionalGroupNorm(channels, spec)
        self.feed_forward = FeedForward(channels, spec)

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Pending:
        """Of x + bias, (B·T, C, H, W), shape kept."""
        tokens = to_tokens(self.in_norm(x, condition.time, input_bias=bias))
        # All frames ask at once, so that keys and values are computed once for each video.
        per_video = rearrange(tokens, "(b t) n c -> b (t n) c", t=condition.num_frames)
        x = self.attention.add_to(x, per_video, condition.context, condition, condition.mask, condition.memo)
        return self.feed_forward.add_to(x, self.out_norm(x, condition.time, input_bias=bias)), bias


class AttentionPooling(nn.Module):
    """Adds the text, pooled by attention from its mean, to the time embedding."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        width = spec.config.context_dim
        self.attention = Attention(width, spec.config.time_embed_dim, width, spec)

    def forward(self, embedding: Tensor, context: Tensor, mask: Tensor, memo: StageMemo | None = None) -> Tensor:
        """embedding (B, E), context (B, N, D), mask (B, 1, 1, N): (B, E)."""
        # As in the official code the mean counts padding tokens too, so it depends on how long the context was padded.
        return embedding + once(
            memo, self, lambda: self.attention(context.mean(dim=1, keepdim=True), context, mask).squeeze(1)
        )


class Stage(nn.Module, ABC):
    """Residual block, text attention, residual block, with a temporal block beside each residual block."""

    def __init__(self, widths: tuple[int, int, int], cross_attention: bool, resample: Resample, spec: UNetSpec) -> None:
        """`widths`: channels in, between the residual blocks and out."""
        super().__init__()
        inputs, middle, outputs = widths
        first, last = (resample, Resample.NONE) if resample is Resample.UP else (Resample.NONE, resample)
        self.in_resnet = ResNetBlock(inputs, middle, first, spec)
        self.attention = CrossAttentionBlock(middle, spec) if cross_attention else Skip()
        self.out_resnet = ResNetBlock(middle, outputs, last, spec)
        in_width, out_width = self.temporal_widths(widths)
        self.in_temporal = spec.placement.residual_block(in_width, spec)
        self.out_temporal = spec.placement.residual_block(out_width, spec)

    @staticmethod
    @abstractmethod
    def temporal_widths(widths: tuple[int, int, int]) -> tuple[int, int]:
        """Channels of the two temporal blocks, for the stage's channels."""

    @abstractmethod
    def order(self) -> tuple[nn.Module, ...]:
        """The blocks in the order in which they run."""

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Pending:
        """Of x + bias, (B·T, inputs, H, W) to (B·T, outputs, H', W')."""
        for block in self.order():
            x, bias = past(block, x, condition, bias)
        return x, bias


class DownStage(Stage):
    """Mixes time after each residual block."""

    @staticmethod
    def temporal_widths(widths: tuple[int, int, int]) -> tuple[int, int]:
        return widths[1], widths[2]

    def order(self) -> tuple[nn.Module, ...]:
        return self.in_resnet, self.in_temporal, self.attention, self.out_resnet, self.out_temporal


class UpStage(Stage):
    """Mixes time before each residual block: the mirror image of a down stage."""

    @staticmethod
    def temporal_widths(widths: tuple[int, int, int]) -> tuple[int, int]:
        return widths[0], widths[1]

    def order(self) -> tuple[nn.Module, ...]:
        return self.in_temporal, self.in_resnet, self.attention, self.out_temporal, self.out_resnet


class DownLevel(nn.Module):
    """Attention, then the level's stages, the last of which resamples."""

    def __init__(self, inputs: int, outputs: int, level: int, resample: Resample, spec: UNetSpec) -> None:
        super().__init__()
        config = spec.config
        attends, count, cross = config.self_attention[level], config.num_blocks[level], config.cross_attention[level]
        self.self_attention_block = SelfAttentionBlock(inputs, spec) if attends else Skip()
        self.temporal_attention_block = spec.placement.attention_block(inputs, spec) if attends else Skip()
        stages = []
        for index in range(count):
            width = inputs if index == 0 else outputs
            last = resample if index == count - 1 else Resample.NONE
            stages.append(DownStage((width, outputs, outputs), cross, last, spec))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Tensor:
        """Of x + bias, (B·T, inputs, H, W) to (B·T, outputs, H', W')."""
        for block in (self.self_attention_block, self.temporal_attention_block, *self.stages):
            x, bias = past(block, x, condition, bias)
        return add_bias(x, bias)


class UpLevel(nn.Module):
    """The level's stages, then attention; the first resamples and takes `skipped` channels of a skip connection."""

    def __init__(self, inputs: int, skipped: int, outputs: int, level: int, resample: Resample, spec: UNetSpec) -> None:
        super().__init__()
        config = spec.config
        attends, count, cross = config.self_attention[level], config.num_blocks[level], config.cross_attention[level]
        self.mirrored = spec.placement.mirrored
        stages = []
        for index in range(count):
            width = inputs + skipped if index == 0 else inputs
            end = outputs if index == count - 1 else inputs
            first = resample if index == 0 else Resample.NONE
            stages.append(UpStage((width, width, end), cross, first, spec))
        self.stages = nn.ModuleList(stages)
        self.temporal_attention_block = spec.placement.attention_block(outputs, spec) if attends else Skip()
        self.self_attention_block = SelfAttentionBlock(outputs, spec) if attends else Skip()

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, inputs + skipped, H, W) to (B·T, outputs, H', W')."""
        # The official keyframe U-Net mirrors its down levels, the official interpolation U-Net (1.1) does not.
        attention = (self.self_attention_block, self.temporal_attention_block)
        bias = None
        for block in (*self.stages, *(reversed(attention) if self.mirrored else attention)):
            x, bias = past(block, x, condition, bias)
        return add_bias(x, bias)

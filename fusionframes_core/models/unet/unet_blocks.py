"""The spatial blocks of the U-Nets and the levels they form.

Inside the trunk a video is (B·T, C, H, W), channels-last in memory: both `to_tokens` and the (B, C, T, H, W) view that
the temporal convolutions want are then free. What every block is conditioned on travels in one `TrunkCondition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ..layers import Maker, SiLU, plus, silu, to_frames, to_tokens

if TYPE_CHECKING:
    from .temporal_layers import TemporalKind


@dataclass
class TrunkCondition:
    """What the blocks of one forward see. Embeddings are already through the SiLU that every norm starts with."""

    batch: int  # B, videos
    time: Tensor  # (B, E): diffusion time and pooled text
    temporal: Tensor | None  # (B or B·T, E): conditions the norms of the temporal blocks
    temporal_attention: Tensor | None  # (B or B·T, E): conditions the first norm of the temporal attention blocks
    context: Tensor  # (B, N, D) text
    mask: Tensor  # (B, 1, 1, N) bool
    merge_mask: Tensor | None  # (B, 1, 1, 1, 1), interpolation: 0 switches the merged temporal layers of a video off
    still: bool  # True: frames are images, every temporal block is skipped


class Skip(nn.Module):
    """A block that does nothing."""

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        return x


class Block(nn.Module):
    """Norm, SiLU, convolution; may double or halve the resolution, and may mix time after its convolutions."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, up: bool | None, make: Maker, kind: TemporalKind
    ) -> None:
        super().__init__()
        self.group_norm = make.norm(inputs)
        self.up_sample = make.double(inputs) if up is True else nn.Identity()
        self.temporal_up = kind.resampling_layer(inputs, make) if up is True else Skip()
        self.projection = make.conv(inputs, outputs, kernel)
        self.temporal = kind.convolution_layer(outputs, make)
        self.down_sample = make.half(outputs) if up is False else nn.Identity()
        self.temporal_down = kind.resampling_layer(outputs, make) if up is False else Skip()

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, inputs, H, W) to (B·T, outputs, H', W')."""
        x = self.up_sample(silu(self.group_norm(x, condition.time)))
        x = self.projection(self.temporal_up(x, condition))
        x = self.down_sample(self.temporal(x, condition))
        return self.temporal_down(x, condition)


class ResNetBlock(nn.Module):
    """Bottleneck of four `Block`s (kernels 1, 3, 3, 1) with a shortcut; `ups`: which double (True) or halve (False)."""

    def __init__(
        self, inputs: int, outputs: int, make: Maker, kind: TemporalKind, ups: tuple[bool | None, ...] = (None,) * 4
    ) -> None:
        super().__init__()
        hidden = max(inputs, outputs) // make.config.compression_ratio
        widths = (inputs, hidden, hidden, hidden, outputs)
        self.resnet_blocks = nn.ModuleList(
            Block(widths[i], widths[i + 1], kernel, ups[i], make, kind) for i, kernel in enumerate((1, 3, 3, 1))
        )
        up, down = True in ups, False in ups
        self.shortcut_up_sample = make.double(inputs) if up else nn.Identity()
        self.temporal_up = kind.resampling_layer(inputs, make) if up else Skip()
        self.shortcut_projection = make.conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.shortcut_down_sample = make.half(outputs) if down else nn.Identity()
        self.temporal_down = kind.resampling_layer(outputs, make) if down else Skip()
        self.last_layer = "temporal_up" if kind.up_twice else "temporal_down"

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, inputs, H, W) to (B·T, outputs, H', W')."""
        out = x
        for block in self.resnet_blocks:
            out = block(out, condition)
        x = self.temporal_up(self.shortcut_up_sample(x), condition)
        x = self.shortcut_down_sample(self.shortcut_projection(x))
        return plus(self.get_submodule(self.last_layer)(x, condition), out)


def feed_forward(channels: int, make: Maker) -> nn.Sequential:
    """Two 1×1 convolutions without bias around a SiLU."""
    hidden = make.config.expansion_ratio * channels
    return nn.Sequential(make.conv(channels, hidden, 1, bias=False), SiLU(), make.conv(hidden, channels, 1, bias=False))


class SelfAttentionBlock(nn.Module):
    """Attention within each frame, then a feed-forward."""

    def __init__(self, channels: int, make: Maker, kind: TemporalKind) -> None:
        super().__init__()
        self.in_norm = make.norm(channels)
        self.attention = make.attention(channels, channels, channels)
        self.temporal = kind.attention_layer(channels, make)
        self.out_norm = make.norm(channels)
        self.feed_forward = feed_forward(channels, make)

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, C, H, W), shape kept."""
        tokens = to_tokens(self.in_norm(x, condition.time))
        x = plus(x, to_frames(self.attention(tokens, tokens), *x.shape[2:]))
        x = self.temporal(x, condition)
        return plus(x, self.feed_forward(self.out_norm(x, condition.time)))


class CrossAttentionBlock(nn.Module):
    """Attention of all frames of a video to its text, then a feed-forward."""

    def __init__(self, channels: int, make: Maker) -> None:
        super().__init__()
        self.in_norm = make.norm(channels)
        self.attention = make.attention(channels, channels, make.config.context_dim)
        self.out_norm = make.norm(channels)
        self.feed_forward = feed_forward(channels, make)

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, C, H, W), shape kept; keys and values are computed once for each video."""
        tokens = to_tokens(self.in_norm(x, condition.time))
        per_video = tokens.reshape(condition.batch, -1, tokens.shape[-1])
        out = self.attention(per_video, condition.context, condition.mask)
        x = plus(x, to_frames(out.reshape(tokens.shape), *x.shape[2:]))
        return plus(x, self.feed_forward(self.out_norm(x, condition.time)))


class AttentionPooling(nn.Module):
    """Adds the text, pooled by attention from its mean, to the time embedding."""

    def __init__(self, make: Maker) -> None:
        super().__init__()
        width = make.config.context_dim
        self.attention = make.attention(width, make.config.time_embed_dim, width)

    def forward(self, embedding: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """embedding (B, E), context (B, N, D), mask (B, 1, 1, N); the mean runs over all N tokens, as upstream."""
        return embedding + self.attention(context.mean(dim=1, keepdim=True), context, mask).squeeze(1)


class Stage(nn.Module):
    """Residual block, text attention, residual block, with a temporal block beside each residual block."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, cross: bool, make: Maker, kind: TemporalKind,
        ups: tuple[tuple[bool | None, ...], tuple[bool | None, ...]], temporal_first: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.temporal_first = temporal_first
        self.in_resnet = ResNetBlock(inputs, middle, make, kind, ups[0])
        self.attention = CrossAttentionBlock(middle, make) if cross else Skip()
        self.out_resnet = ResNetBlock(middle, outputs, make, kind, ups[1])
        self.in_temporal = kind.residual_block(inputs if temporal_first else middle, make)
        self.out_temporal = kind.residual_block(middle if temporal_first else outputs, make)

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """Down levels mix time after each residual block, up levels before it (the mirror image)."""
        order: tuple[nn.Module, ...] = (
            self.in_resnet,
            self.in_temporal,
            self.attention,
            self.out_resnet,
            self.out_temporal,
        )
        if self.temporal_first:
            order = (self.in_temporal, self.in_resnet, self.attention, self.out_temporal, self.out_resnet)
        for block in order:
            x = block(x, condition)
        return x


PLAIN: tuple[bool | None, ...] = (None,) * 4


class DownLevel(nn.Module):
    """Attention, then `num_blocks` stages; the last halves the resolution when `halve`."""

    def __init__(self, inputs: int, outputs: int, level: int, halve: bool, make: Maker, kind: TemporalKind) -> None:
        super().__init__()
        config = make.config
        attends, count = config.self_attention[level], config.num_blocks[level]
        self.self_attention_block = SelfAttentionBlock(inputs, make, kind) if attends else Skip()
        self.temporal_attention_block = kind.attention_block(inputs, make) if attends else Skip()
        stages = []
        for index in range(count):
            last = (None, None, False if halve else None, None) if index == count - 1 else PLAIN
            width = inputs if index == 0 else outputs
            stages.append(
                Stage(width, outputs, outputs, config.cross_attention[level], make, kind, (PLAIN, last), False)
            )
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, inputs, H, W) to (B·T, outputs, H', W')."""
        x = self.temporal_attention_block(self.self_attention_block(x, condition), condition)
        for stage in self.stages:
            x = stage(x, condition)
        return x


class UpLevel(nn.Module):
    """`num_blocks` stages, the first doubling the resolution when `double`, then attention."""

    def __init__(
        self, inputs: int, skipped: int, outputs: int, level: int, double: bool, make: Maker, kind: TemporalKind
    ) -> None:
        super().__init__()
        config = make.config
        attends, count = config.self_attention[level], config.num_blocks[level]
        self.mirrored = kind.mirrored
        stages = []
        for index in range(count):
            first = (None, True if double else None, None, None) if index == 0 else PLAIN
            width = inputs + skipped if index == 0 else inputs
            end = outputs if index == count - 1 else inputs
            stages.append(Stage(width, width, end, config.cross_attention[level], make, kind, (first, PLAIN), True))
        self.stages = nn.ModuleList(stages)
        self.temporal_attention_block = kind.attention_block(outputs, make) if attends else Skip()
        self.self_attention_block = SelfAttentionBlock(outputs, make, kind) if attends else Skip()

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """(B·T, inputs + skipped, H, W) to (B·T, outputs, H', W')."""
        for stage in self.stages:
            x = stage(x, condition)
        if self.mirrored:
            return self.self_attention_block(self.temporal_attention_block(x, condition), condition)
        return self.temporal_attention_block(self.self_attention_block(x, condition), condition)

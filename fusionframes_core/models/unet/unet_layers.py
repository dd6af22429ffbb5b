"""What the U-Nets' spatial and temporal blocks are both made of, and what every block is conditioned on.

A block takes the numbers of its channels and a `UNetSpec`, and is called as `block(x, condition)` with one
`TrunkCondition`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...config import UNetConfig
from ...errors import named
from ...kernels import elementwise
from ...kernels.group_norms import GroupNormSpec, conditional_norm
from ..layers import LayerFactory
from ..layout import from_tokens
from ..pending_bias import add_product
from ..stage_memo import StageMemo, once
from ..temporal import NeutralNorm, Skip, zero_weights


class TrunkHooks(Protocol):
    """What a host does between the layers of a U-Net, where it has its own attention or patches."""

    def attend(
        self, layer: Attention, x: Tensor, context: Tensor, mask: Tensor | None, memo: StageMemo | None
    ) -> Tensor:
        """What an attention layer of a block gives its output layer; arguments and result as `Attention.attend`'s."""

    def output_patch(self, layer: Attention) -> Callable[[Tensor], Tensor] | None:
        """What changes the layer's output (B, N, C); None: nothing does."""

    def after_down(self, level: int, frames: Tensor) -> tuple[Tensor, Tensor]:
        """A down level's output (B·T, C, H, W), changed: for the skip connection, and for the next level."""

    def before_up(self, level: int, frames: Tensor, skipped: Tensor) -> tuple[Tensor, Tensor]:
        """What an up level joins, changed: the output before it and the skip connection, both (B·T, C, H, W)."""


@dataclass(frozen=True)
class TrunkCondition:
    """What the blocks of one forward see. Embeddings are already through the SiLU that every norm starts with."""

    num_frames: int  # T, or G groups: how the rows of an activation make videos
    temporal: bool  # False: frames are images, every temporal layer is skipped
    time: Tensor  # (B, E): diffusion time and pooled text
    temporal_norms: Tensor | None  # (B or B·T, E): conditions the norms of the temporal blocks
    temporal_attention_norm: Tensor | None  # (B or B·T, E): conditions the first norm of the temporal attention blocks
    context: Tensor  # (B, N, D) text
    mask: Tensor  # (B, 1, 1, N) bool
    merge_mask: Tensor | None = None  # (B, 1, 1, 1, 1), m of eq. 5: 0 switches a video's merged temporal layers off
    over: bool = False  # merged layers may write over their input
    mixed: MixedVideos | None = None  # only these videos have temporal layers; None: all, as merge_mask says
    hooks: TrunkHooks | None = None
    memo: StageMemo | None = None  # keeps what all steps of a stage have in common
    steady_attention_norm: bool = False  # temporal_attention_norm is the same in all of them


@dataclass(frozen=True)
class MixedVideos:
    """The neighbouring videos of a batch whose temporal layers are on, [start, stop), and what their blocks see."""

    start: int
    stop: int
    condition: TrunkCondition


@dataclass(frozen=True)
class UNetSpec:
    """What all blocks of one U-Net have in common: its sizes, how its layers are made, and where it mixes time."""

    config: UNetConfig
    layers: LayerFactory
    placement: TemporalPlacement


def skip(channels: int, spec: UNetSpec) -> nn.Module:
    """No temporal part at this place."""
    return Skip()


PartOfChannels = Callable[[int, UNetSpec], nn.Module]


@dataclass(frozen=True)
class TemporalPlacement:
    """Where a U-Net mixes time; each of the first five fields makes the part for a given number of channels."""

    residual_block: PartOfChannels = skip  # beside each spatial residual block
    attention_block: PartOfChannels = skip  # beside each spatial self-attention block
    convolution_layer: PartOfChannels = skip  # after each convolution of the residual blocks
    resampling_layer: PartOfChannels = skip  # after the input's convolution and those that change the resolution
    attention_layer: PartOfChannels = skip  # inside each self-attention block
    up_twice: bool = False  # on shortcuts, the layer after doubling stands in for the one after halving (1.1's code)
    mirrored: bool = True  # up levels run the temporal attention block before the spatial one
    frame_positions: bool = True  # needs the positions of the frames


def sinusoidal(values: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of `values` (N,) at `dim // 2` frequencies from 1 down to 1/10000; float32 (N, dim)."""
    half = dim // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32)
    # half − 1: the last frequency is exactly 1/10000, as in the official code (the transformer's formula has half)
    angles = values.float()[:, None] * torch.exp(steps * (-math.log(10000) / (half - 1)))
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ScalarEmbedding(nn.Module):
    """A number per row (diffusion time, frame position, motion score, ...) to a vector: sinusoid, then a small MLP."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.dim = spec.config.init_channels
        self.linear_in = spec.layers.linear(self.dim, spec.config.time_embed_dim)
        self.linear_out = spec.layers.linear(spec.config.time_embed_dim, spec.config.time_embed_dim)

    def forward(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """(N,) to (N, time_embed_dim) in `dtype`."""
        return self.linear_out(F.silu(self.linear_in(sinusoidal(values, self.dim).to(dtype))))


class ConditionalGroupNorm(NeutralNorm):
    """Group norm of each frame whose scale and shift are read from an embedding."""

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__()
        self.groups = spec.config.groups
        if channels % self.groups:
            raise ValueError(f"groups must divide every width of the U-Net; got {self.groups} and {channels}")
        self.modulation = spec.layers.linear(spec.config.time_embed_dim, 2 * channels)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        silu: bool = False,
        input_bias: Tensor | None = None,
        memo: StageMemo | None = None,
        steady: bool = False,
    ) -> Tensor:
        """x (B·T, C, H, W); embedding (R, E), already through SiLU, a row per video (R = B) or frame (R = B·T).

        The result goes through SiLU if `silu`; `input_bias` (C,) is still to be added to x. `steady`: the embedding is
        the same in all steps of the stage that `memo` belongs to.
        """
        modulation = once(memo if steady else None, self, lambda: self.modulation(embedding))
        scale, shift = modulation.chunk(2, dim=1)
        return conditional_norm(x, GroupNormSpec(self.groups), scale, shift, silu, input_bias)

    def make_neutral(self) -> None:
        """Zero modulation: `forward` adds one to the scale."""
        zero_weights(self.modulation)


GRID_OCTAVES = 3
GRID_FEATURES = 2 * (1 + 2 * GRID_OCTAVES)


def grid_features(height: int, width: int, like: Tensor) -> Tensor:
    """Where each position lies in the frame, at any resolution alike: (H·W, GRID_FEATURES) in `like`'s type.

    Per axis the coordinate in (−1, 1), and its sines and cosines at quarter, half and whole waves.
    """
    axes = [
        (torch.arange(size, device=like.device, dtype=torch.float32) * 2 + 1) / size - 1 for size in (height, width)
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 1)
    waves = [grid * (math.pi / 2 * 2**octave) for octave in range(GRID_OCTAVES)]
    return torch.cat([grid, *(part for wave in waves for part in (wave.sin(), wave.cos()))], dim=1).to(like.dtype)


class GridGroupNorm(ConditionalGroupNorm):
    """A conditional norm that adds a learned function of the position in the frame.

    Ours: temporal blocks work on each position by itself, so without it "the shape enters at the right" is hard to say.
    """

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__(channels, spec)
        self.place = spec.layers.linear(GRID_FEATURES, channels)

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        silu: bool = False,
        input_bias: Tensor | None = None,
        memo: StageMemo | None = None,
        steady: bool = False,
    ) -> Tensor:
        height, width = x.shape[2:]
        modulated = super().forward(x, embedding, False, input_bias, memo, steady)
        place = once(memo, (self, height, width), lambda: self.place(grid_features(height, width, x)))
        placed = modulated + from_tokens(place[None], height, width)
        return elementwise.silu(placed) if silu else placed


TEMPORAL_NORMS: dict[str, type[ConditionalGroupNorm]] = {"none": ConditionalGroupNorm, "grid": GridGroupNorm}
"""What the norms of temporal parts know of the position in the frame: nothing (official), or its coordinates."""


def temporal_norm(channels: int, spec: UNetSpec) -> ConditionalGroupNorm:
    """The norm of temporal parts that the configuration names. Raises ValueError for a name that is not known."""
    norm: type[ConditionalGroupNorm] = named(TEMPORAL_NORMS, "temporal_place", spec.config.temporal_place)
    return norm(channels, spec)


class Attention(nn.Module):
    """Multi-head attention without biases."""

    def __init__(self, inputs: int, outputs: int, context: int, spec: UNetSpec) -> None:
        super().__init__()
        self.head_dim = spec.config.head_dim
        if outputs % self.head_dim:
            raise ValueError(f"head_dim must divide every attention width; got {self.head_dim} and {outputs}")
        self.to_query = spec.layers.linear(inputs, outputs, bias=False)
        self.to_key = spec.layers.linear(context, outputs, bias=False)
        self.to_value = spec.layers.linear(context, outputs, bias=False)
        self.output_layer = spec.layers.linear(outputs, outputs, bias=False)

    def forward(
        self,
        x: Tensor,
        context: Tensor,
        mask: Tensor | None = None,
        hooks: TrunkHooks | None = None,
        memo: StageMemo | None = None,
    ) -> Tensor:
        """`attend` through the hooks if there are any, and the output layer: (B, N, outputs)."""
        out = self.output_layer(self._attended(hooks, x, context, mask, memo))
        patch = None if hooks is None else hooks.output_patch(self)
        return out if patch is None else patch(out)

    def add_to(
        self,
        residual: Tensor,
        x: Tensor,
        context: Tensor,
        condition: TrunkCondition,
        mask: Tensor | None = None,
        memo: StageMemo | None = None,
    ) -> Tensor:
        """residual (N, C, H, W) + what `forward` gives for x, whose tokens are the positions of `residual` in order.

        `residual`, which nobody else may hold, may be written over.
        """
        hooks, positions = condition.hooks, residual.shape[2:]

        def placed(tokens: Tensor) -> Tensor:
            return from_tokens(tokens.reshape(len(residual), positions.numel(), -1), *positions)

        attended = self._attended(hooks, x, context, mask, memo)
        patch = None if hooks is None else hooks.output_patch(self)
        if patch is not None:
            return elementwise.add_residual(residual, placed(patch(self.output_layer(attended))))
        return add_product(residual, self.output_layer, placed(attended))[0]

    def _attended(self, hooks: TrunkHooks | None, *inputs: Any) -> Tensor:
        return self.attend(*inputs) if hooks is None else hooks.attend(self, *inputs)

    def keys_and_values(self, context: Tensor, memo: StageMemo | None) -> tuple[Tensor, Tensor]:
        """Of a context (B, M, context), each (B, M, outputs); with a memo it is the same in all steps of the stage."""
        return once(memo, self, lambda: (self.to_key(context), self.to_value(context)))

    def attend(self, x: Tensor, context: Tensor, mask: Tensor | None, memo: StageMemo | None = None) -> Tensor:
        """What goes to the output layer, (B, N, outputs).

        x (B, N, inputs), context (B, M, context), mask bool that broadcasts to (B, heads, N, M).
        """
        query, (key, value) = self.to_query(x), self.keys_and_values(context, memo)
        query, key, value = (part.unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for part in (query, key, value))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return out.transpose(1, 2).flatten(2)


class FeedForward(nn.Sequential):
    """Two 1×1 convolutions without bias around a SiLU."""

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        hidden = spec.config.expansion_ratio * channels
        super().__init__(
            spec.layers.conv2d(channels, hidden, 1, bias=False),
            elementwise.SiLU(),
            spec.layers.conv2d(hidden, channels, 1, bias=False),
        )

    def add_to(self, x: Tensor, normed: Tensor) -> Tensor:
        """x + what it makes of `normed`, both (N, C, H, W); x, which nobody else may hold, may be written over."""
        first, silu, last = self
        hidden = silu(first(normed))
        del normed  # not held while the last product is made
        return add_product(x, last, hidden)[0]

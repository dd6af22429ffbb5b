"""How frames see each other: the temporal conditionings of the paper (section 4.1, Figure 3), by name.

Every temporal part is a `Temporal`: it keeps the shape, starts as an identity after `reset_identity`, and does nothing
for stills. A `TemporalKind` says which parts a U-Net gets, and where.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import ConditionalGroupNorm, Maker, plus, silu, to_frames, to_tokens
from .unet_blocks import Skip, TrunkCondition, feed_forward


class Temporal(nn.Module):
    """Base of the temporal parts. `mix` does the work, on (B·T, C, H, W)."""

    def forward(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        return x if condition.still else self.mix(x, condition)

    def mix(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        raise NotImplementedError

    def last_layers(self) -> list[nn.Module]:
        """The layers that are zero when this part is an identity."""
        raise NotImplementedError

    def reset_identity(self) -> None:
        """Fresh weights with zero last layers and neutral norms: the part gives back its input."""
        reset(self)
        for module in self.modules():
            if isinstance(module, ConditionalGroupNorm):
                zero(module.modulation)
        for layer in self.last_layers():
            zero(layer)


def reset(part: nn.Module) -> None:
    """Fresh weights in every layer of `part`."""
    for layer in part.modules():
        start = getattr(layer, "reset_parameters", None)
        if callable(start):
            start()


def zero(layer: nn.Module) -> None:
    """Zero a layer's weight and bias."""
    for parameter in layer.parameters(recurse=False):
        nn.init.zeros_(parameter)


def over_time(convolution: nn.Module, x: Tensor, batch: int) -> Tensor:
    """Run a 3-D convolution over the frames of each video: (B·T, C, H, W), same T."""
    video = x.unflatten(0, (batch, -1)).transpose(1, 2)
    return convolution(video).transpose(1, 2).flatten(0, 1)


class TemporalConv1dBlock(Temporal):
    """Temporal Conv1D: a residual bottleneck of (1, 3, 3, 1)×1×1 convolutions."""

    def __init__(self, channels: int, make: Maker) -> None:
        super().__init__()
        hidden = channels // make.config.compression_ratio
        widths = (channels, hidden, hidden, hidden, channels)
        self.norms = nn.ModuleList(make.temporal_norm(width) for width in widths[:-1])
        self.projections = nn.ModuleList(
            make.conv3d(widths[i], widths[i + 1], (kernel, 1, 1)) for i, kernel in enumerate((1, 3, 3, 1))
        )

    def mix(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        out = x
        for norm, projection in zip(self.norms, self.projections, strict=True):
            out = over_time(projection, silu(norm(out, condition.temporal)), condition.batch)
        return plus(x, out)

    def last_layers(self) -> list[nn.Module]:
        return [self.projections[-1]]


class TemporalConv3dBlock(Temporal):
    """Temporal Conv3D: two 3×3×3 convolutions between a Linear down and a Linear up.

    The bottleneck is half as wide as `TemporalConv1dBlock`'s, so that the parameter counts stay comparable, as section
    4.1 asks (full size: 1.17 B temporal parameters against 1.11 B).
    """

    def __init__(self, channels: int, make: Maker) -> None:
        super().__init__()
        hidden = channels // (2 * make.config.compression_ratio)
        self.norms = nn.ModuleList(make.temporal_norm(width) for width in (channels, hidden, hidden, hidden))
        self.linear_down = make.linear(channels, hidden)
        self.projections = nn.ModuleList(make.conv3d(hidden, hidden, (3, 3, 3)) for _ in range(2))
        self.linear_up = make.linear(hidden, channels)

    def mix(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        def normed(index: int, frames: Tensor) -> Tensor:
            return silu(self.norms[index](frames, condition.temporal))

        out = to_frames(self.linear_down(to_tokens(normed(0, x))), *x.shape[2:])
        for index, projection in enumerate(self.projections):
            out = over_time(projection, normed(index + 1, out), condition.batch)
        return plus(x, to_frames(self.linear_up(to_tokens(normed(3, out))), *x.shape[2:]))

    def last_layers(self) -> list[nn.Module]:
        return [self.linear_up]


class TemporalConvLayer(Temporal):
    """One residual 3×1×1 convolution inside a spatial block (the paper's mixed baseline)."""

    def __init__(self, channels: int, make: Maker) -> None:
        super().__init__()
        self.projection = make.conv3d(channels, channels, (3, 1, 1))

    def mix(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        return plus(x, over_time(self.projection, x, condition.batch))

    def last_layers(self) -> list[nn.Module]:
        return [self.projection]


class TemporalAttentionLayer(Temporal):
    """Attention across frames, among the positions of a `window`×`window` square (1: each position by itself)."""

    def __init__(self, channels: int, make: Maker, window: int = 1) -> None:
        super().__init__()
        self.window = window
        self.in_norm = make.temporal_norm(channels)
        self.attention = make.attention(channels, channels, channels)

    def attend(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        """What attention adds to x (B·T, C, H, W)."""
        normed = self.in_norm(x, condition.temporal_attention)
        video = normed.permute(0, 2, 3, 1).unflatten(0, (condition.batch, -1))
        windows, mask = to_windows(video, self.window)
        return from_windows(self.attention(windows, windows, mask), video, self.window)

    def mix(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        return plus(x, self.attend(x, condition))

    def last_layers(self) -> list[nn.Module]:
        return [self.attention.output_layer]


class TemporalAttentionBlock(TemporalAttentionLayer):
    """Temporal Attn1D (window 1) or Attn3D (window 2: blocks of 2×2×T as MaxViT's), then a feed-forward."""

    def __init__(self, channels: int, make: Maker, window: int = 1) -> None:
        super().__init__(channels, make, window)
        self.out_norm = make.temporal_norm(channels)
        self.feed_forward = feed_forward(channels, make)

    def mix(self, x: Tensor, condition: TrunkCondition) -> Tensor:
        x = plus(x, self.attend(x, condition))
        return plus(x, self.feed_forward(self.out_norm(x, condition.temporal)))

    def last_layers(self) -> list[nn.Module]:
        return [self.attention.output_layer, self.feed_forward[-1]]


def to_windows(video: Tensor, window: int) -> tuple[Tensor, Tensor | None]:
    """(B, T, H, W, C) to (B·windows, T·window², C); the mask hides the padding of sizes that are no multiple of it."""
    batch, frames, height, width, channels = video.shape
    if window == 1:
        return video.flatten(2, 3).transpose(1, 2).reshape(-1, frames, channels), None
    right, below = -width % window, -height % window
    folded = _fold(F.pad(video, (0, 0, 0, right, 0, below)), window)
    if not right and not below:
        return folded, None
    real = F.pad(video.new_ones(1, frames, height, width, 1, dtype=torch.bool), (0, 0, 0, right, 0, below))
    return folded, _fold(real, window).repeat(batch, 1, 1).transpose(1, 2)[:, None]


def _fold(video: Tensor, window: int) -> Tensor:
    grid = video.unflatten(3, (-1, window)).unflatten(2, (-1, window))
    return grid.permute(0, 2, 4, 1, 3, 5, 6).flatten(3, 5).flatten(0, 2)


def from_windows(tokens: Tensor, video: Tensor, window: int) -> Tensor:
    """Undo `to_windows` for a video (B, T, H, W, C): gives (B·T, C, H, W)."""
    batch, frames, height, width = video.shape[:4]
    if window == 1:
        grid = tokens.unflatten(0, (batch, height, width))
        return grid.permute(0, 3, 1, 2, 4).flatten(0, 1).permute(0, 3, 1, 2)  # channels-last
    rows, columns = -(-height // window), -(-width // window)
    grid = tokens.unflatten(0, (batch, rows, columns)).unflatten(3, (frames, window, window))
    whole = grid.permute(0, 3, 6, 1, 4, 2, 5).flatten(5, 6).flatten(3, 4)
    return whole[..., :height, :width].flatten(0, 1)


def nothing(channels: int, make: Maker) -> nn.Module:
    return Skip()


Part = Callable[[int, Maker], nn.Module]


@dataclass(frozen=True)
class TemporalKind:
    """Where a U-Net mixes time; each field makes the part for a given number of channels."""

    residual_block: Part = nothing  # beside each spatial residual block
    attention_block: Part = nothing  # beside each spatial self-attention block
    convolution_layer: Part = nothing  # after each convolution of the residual blocks
    resampling_layer: Part = nothing  # after the other convolutions: the input's, those that change the resolution
    attention_layer: Part = nothing  # inside each self-attention block
    up_twice: bool = False  # on shortcuts, the layer after doubling stands in for the one after halving (1.1's code)
    mirrored: bool = True  # up levels run the temporal attention block before the spatial one
    framed: bool = True  # needs the positions of the frames


TEMPORAL_BLOCKS: dict[str, TemporalKind] = {
    "conv1d_attn1d_blocks": TemporalKind(TemporalConv1dBlock, TemporalAttentionBlock),
    "conv3d_attn1d_blocks": TemporalKind(TemporalConv3dBlock, TemporalAttentionBlock),
    "conv1d_attn3d_blocks": TemporalKind(TemporalConv1dBlock, partial(TemporalAttentionBlock, window=2)),
    "conv1d_attn1d_layers": TemporalKind(convolution_layer=TemporalConvLayer, attention_layer=TemporalAttentionLayer),
    "none": TemporalKind(framed=False),
}

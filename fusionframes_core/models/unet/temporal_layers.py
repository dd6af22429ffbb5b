"""How frames see each other: the temporal conditionings of the paper (section 4.1, Figure 3), by name.

`TEMPORAL_BLOCKS` says which of the temporal layers below a U-Net gets, and where.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from ...kernels.elementwise import add_residual
from ..layout import from_tokens, from_windows, over_time_without_bias, to_tokens, to_windows
from ..pending_bias import add_product
from ..temporal import TemporalBlock, TemporalConvolution
from .unet_layers import Attention, FeedForward, TemporalPlacement, TrunkCondition, UNetSpec, temporal_norm


class TemporalConv1dBlock(TemporalBlock[TrunkCondition]):
    """Temporal Conv1D: a residual bottleneck of (1, 3, 3, 1)×1×1 convolutions."""

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__()
        hidden = channels // spec.config.compression_ratio
        widths = (channels, hidden, hidden, hidden, channels)
        self.norms = nn.ModuleList(temporal_norm(width, spec) for width in widths[:-1])
        self.projections = nn.ModuleList(
            spec.layers.conv3d(widths[i], widths[i + 1], (kernel, 1, 1)) for i, kernel in enumerate((1, 3, 3, 1))
        )

    def mix_frames(  # type: ignore[override]
        self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        *inner, last = self.projections
        out, own = x, bias
        for norm, projection in zip(self.norms, inner):
            normed = norm(out, condition.temporal_norms, True, own, condition.memo)
            out, own = over_time_without_bias(projection, normed, condition.num_frames)
        return add_product(x, last, self.norms[-1](out, condition.temporal_norms, True, own, condition.memo), bias)

    def zero_layers(self) -> list[nn.Module]:
        return [self.projections[-1]]


class TemporalConv3dBlock(TemporalBlock[TrunkCondition]):
    """Temporal Conv3D: two 3×3×3 convolutions between a Linear down and a Linear up.

    The bottleneck is half as wide as `TemporalConv1dBlock`'s, so that the parameter counts stay comparable, as section
    4.1 asks (full size: 1.17 B temporal parameters against 1.11 B).
    """

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__()
        hidden = channels // (2 * spec.config.compression_ratio)
        self.norms = nn.ModuleList(temporal_norm(width, spec) for width in (channels, hidden, hidden, hidden))
        self.linear_down = spec.layers.linear(channels, hidden)
        self.projections = nn.ModuleList(spec.layers.conv3d(hidden, hidden, (3, 3, 3)) for _ in range(2))
        self.linear_up = spec.layers.linear(hidden, channels)

    def mix_frames(  # type: ignore[override]
        self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        def normed(index: int, frames: Tensor, bias: Tensor | None = None) -> Tensor:
            return self.norms[index](frames, condition.temporal_norms, True, bias, condition.memo)

        out, own = from_tokens(self.linear_down(to_tokens(normed(0, x, bias))), *x.shape[2:]), None
        for index, projection in enumerate(self.projections):
            out, own = over_time_without_bias(projection, normed(index + 1, out, own), condition.num_frames)
        return add_product(x, self.linear_up, normed(3, out, own), bias)

    def zero_layers(self) -> list[nn.Module]:
        return [self.linear_up]


class TemporalConvLayer(TemporalConvolution[TrunkCondition]):
    """One residual 3×1×1 convolution inside a spatial block (the paper's mixed baseline)."""

    def __init__(self, channels: int, spec: UNetSpec) -> None:
        super().__init__()
        self.projection = spec.layers.conv3d(channels, channels, (3, 1, 1))

    def mix_frames(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Tensor:
        return add_residual(x, *over_time_without_bias(self.projection, x, condition.num_frames, bias, condition.memo))

    def zero_layers(self) -> list[nn.Module]:
        return [self.projection]


class TemporalAttentionLayer(TemporalBlock[TrunkCondition]):
    """Attention across frames, among the positions of a `window`×`window` square (1: each position by itself)."""

    def __init__(self, channels: int, spec: UNetSpec, window: int = 1) -> None:
        super().__init__()
        self.window = window
        self.in_norm = temporal_norm(channels, spec)
        self.attention = Attention(channels, channels, channels, spec)

    def attend(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Tensor:
        """What attention adds to x + bias (B·T, C, H, W)."""
        # In 1.0 this norm alone knows the positions of the frames: see `SeparateConditioning`.
        embedding, memo = condition.temporal_attention_norm, condition.memo
        steady = condition.steady_attention_norm
        normed = self.in_norm(x, embedding, input_bias=bias, memo=memo, steady=steady)
        video = normed.permute(0, 2, 3, 1).unflatten(0, (-1, condition.num_frames))
        windows, mask = to_windows(video, self.window)
        return from_windows(self.attention(windows, windows, mask, condition.hooks), video, self.window)

    def mix_frames(  # type: ignore[override]
        self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        return add_residual(x, self.attend(x, condition, bias)), bias

    def zero_layers(self) -> list[nn.Module]:
        return [self.attention.output_layer]


class TemporalAttentionBlock(TemporalAttentionLayer):
    """Temporal Attn1D (window 1) or Attn3D (window 2: blocks of 2×2×T as MaxViT's), then a feed-forward."""

    def __init__(self, channels: int, spec: UNetSpec, window: int = 1) -> None:
        super().__init__(channels, spec, window)
        self.out_norm = temporal_norm(channels, spec)
        self.feed_forward = FeedForward(channels, spec)

    def mix_frames(  # type: ignore[override]
        self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        x = add_residual(x, self.attend(x, condition, bias))
        normed = self.out_norm(x, condition.temporal_norms, input_bias=bias, memo=condition.memo)
        return self.feed_forward.add_to(x, normed), bias

    def zero_layers(self) -> list[nn.Module]:
        return [self.attention.output_layer, self.feed_forward[-1]]


TEMPORAL_BLOCKS: dict[str, TemporalPlacement] = {
    "conv1d_attn1d_blocks": TemporalPlacement(TemporalConv1dBlock, TemporalAttentionBlock),
    "conv3d_attn1d_blocks": TemporalPlacement(TemporalConv3dBlock, TemporalAttentionBlock),
    "conv1d_attn3d_blocks": TemporalPlacement(TemporalConv1dBlock, partial(TemporalAttentionBlock, window=2)),
    "conv1d_attn1d_layers": TemporalPlacement(
        convolution_layer=TemporalConvLayer, attention_layer=TemporalAttentionLayer
    ),
    "none": TemporalPlacement(frame_positions=False),
}
"""The conditionings of Table 1 by name; "none" is the text-to-image U-Net."""

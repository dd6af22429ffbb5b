"""Layers over time that a learned α merges with their input, and that a video can switch off (paper, eq. 3 and 5)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.elementwise import MERGES
from ..layout import over_time_without_bias
from ..temporal import TemporalConvolution, TemporalLayer
from .temporal_layers import TemporalAttentionBlock
from .unet_layers import MixedVideos, TrunkCondition, UNetSpec

MIXED = "mixed videos"  # a memo's key of which videos have temporal layers


class Merge(nn.Module):
    """Merges what a temporal layer made into its input, by a learned α that a video can switch off."""

    def __init__(self, temporal_merge: str, spec: UNetSpec) -> None:
        super().__init__()
        self.alpha = spec.layers.alpha()
        self.merge_rule = MERGES[temporal_merge]

    def forward(
        self,
        x: Tensor,
        out: Tensor,
        condition: TrunkCondition,
        bias: Tensor | None = None,
        past: Tensor | None = None,
    ) -> Tensor:
        """x and out (B·T, C, H, W); `out` may be written over. `bias` and `past` as `elementwise.merge_residual`."""
        shape = (-1, condition.num_frames)
        alpha = self.alpha(x)
        if condition.merge_mask is not None:
            alpha = alpha * condition.merge_mask.to(x.dtype)  # m of eq. 5: with α = 0 the spatial output is all
        videos = x.unflatten(0, shape), out.unflatten(0, shape)
        merged = self.merge_rule(*videos, alpha, bias, condition.over, past)
        return merged.flatten(0, 1)


class MergedLayer(TemporalLayer[TrunkCondition]):
    """Base of the merged layers, which take along a bias: where some videos of a batch have none, only the others are
    mixed."""

    mix_frames: Any  # a temporal convolution's or a temporal block's

    def forward(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Any:
        """Of x + bias, as the layers' own; x (B·T, C, H, W) is written over where only some videos are mixed."""
        mixed = condition.mixed
        if mixed is None:
            return super().forward(x, condition, bias)  # type: ignore[call-arg]
        rows = slice(mixed.start * condition.num_frames, mixed.stop * condition.num_frames)
        made = self.mix_frames(x[rows], mixed.condition, bias)
        return x if isinstance(made, Tensor) else (x, bias)


class MergedConvolution(MergedLayer, TemporalConvolution[TrunkCondition]):
    """The 3×1×1 convolution across groups that follows a spatial convolution, merged by α (paper, eq. 3)."""

    def __init__(self, channels: int, spec: UNetSpec, temporal_merge: str) -> None:
        super().__init__()
        self.projection = spec.layers.conv3d(channels, channels, (3, 1, 1))
        self.merge = Merge(temporal_merge, spec)

    def mix_frames(self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None) -> Tensor:
        out, behind = over_time_without_bias(self.projection, x, condition.num_frames, bias, condition.memo)
        return self.merge(x, out, condition, behind, past=bias)

    def zero_layers(self) -> list[nn.Module]:
        return [self.merge.alpha]


class MergedAttentionBlock(MergedLayer, TemporalAttentionBlock):
    """1.1's temporal attention across groups and its feed-forward, each merged by its own α."""

    def __init__(self, channels: int, spec: UNetSpec, temporal_merge: str) -> None:
        super().__init__(channels, spec)
        self.merge_attention = Merge(temporal_merge, spec)
        self.merge_feed_forward = Merge(temporal_merge, spec)

    def mix_frames(  # type: ignore[override]
        self, x: Tensor, condition: TrunkCondition, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        x = self.merge_attention(x, self.attend(x, condition, bias), condition, past=bias)
        normed = self.out_norm(x, condition.temporal_norms, input_bias=bias, memo=condition.memo)
        return self.merge_feed_forward(x, self.feed_forward(normed), condition, past=bias), bias

    def zero_layers(self) -> list[nn.Module]:
        return [self.merge_attention.alpha, self.merge_feed_forward.alpha]


def only_mixed(condition: TrunkCondition) -> TrunkCondition:
    """The condition without the work of temporal layers that its mask switches off.

    Which videos those are has to be read from the device, so only where it has numbers (the meta device has none), a
    memo keeps them, and no gradient needs the input of a layer; elsewhere α is multiplied by the mask.
    """
    mask, memo = condition.merge_mask, condition.memo
    if mask is None or memo is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return condition
    if mask.is_meta and not memo.holds(MIXED):  # has no numbers to read
        return condition
    on = memo.once(MIXED, lambda: [bool(each) for each in mask.flatten().tolist()])
    start, count = (on.index(True), sum(on)) if any(on) else (0, 0)
    stop = start + count
    if not all(on[start:stop]):
        return condition
    condition = dataclasses.replace(condition, merge_mask=None)
    if count == 0:
        return dataclasses.replace(condition, temporal=False)
    if count == len(on):
        return condition
    seen = {name: getattr(condition, name)[start:stop] for name in ("time", "context", "mask")}
    seen |= dict.fromkeys(("temporal_norms", "temporal_attention_norm"), seen["time"])
    part = dataclasses.replace(condition, over=True, **seen)
    return dataclasses.replace(condition, mixed=MixedVideos(start, stop, part))

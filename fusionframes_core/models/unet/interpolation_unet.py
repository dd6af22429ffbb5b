"""The interpolation U-Net: three frames between each two neighbouring keyframes (paper, section 4.2, appendix 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ...config import InterpolationConfig, UNetConfig
from ...errors import named
from ...kernels.elementwise import MERGES
from ..layers import LayerFactory, TorchOperations
from ..stage_memo import StageMemo, once
from ..temporal import TemporalPart, initialise_temporal
from .keyframe_unet import copy_weights
from .merged_layers import MergedAttentionBlock, MergedConvolution, only_mixed
from .unet import Trunk, UNet
from .unet_layers import (
    ScalarEmbedding,
    TemporalPlacement,
    TrunkCondition,
    TrunkHooks,
    UNetSpec,
    skip,
)

GROUP_FRAMES = 3  # frames that interpolation puts between two neighbouring keyframes: a group
SKIP_FRAMES = 20  # entries of the skip-frame table


@dataclass
class InterpolationCondition:
    """What one forward of `InterpolationUNet` is conditioned on."""

    keyframes: Tensor  # (B, 4, G+1, h, w); zeros for the unconditional half of context guidance
    context: Tensor  # (B, N, D)
    mask: Tensor  # (B, N) bool, True = attend
    skip_frames: Tensor  # (B,) long, s of section 4.2
    perturbation: Tensor  # (B,) forward-diffusion steps that the keyframes went through
    temporal: Tensor  # (B,) bool; False switches a video's temporal layers off (m = 0 in eq. 5)
    hooks: TrunkHooks | None = None
    memo: StageMemo | None = None  # keeps what all steps of a stage have in common


SHORTCUT_TEMPORAL = {"each": False, "up_twice": True}
"""Of `shortcut_temporal`: whether the layer after doubling runs twice (1.1's code)."""
TEXT_POOLING = {"before": True, "after": False}
"""Of `text_pooling`: whether the pooled text joins the time embedding before the other embeddings merge."""


def temporal_placement(config: InterpolationConfig) -> TemporalPlacement:
    """Where an interpolation U-Net mixes its groups. Raises ValueError for a choice that the tables do not know."""
    named(MERGES, "temporal_merge", config.temporal_merge)
    convolution = partial(MergedConvolution, temporal_merge=config.temporal_merge)
    attention = partial(MergedAttentionBlock, temporal_merge=config.temporal_merge)
    return TemporalPlacement(
        attention_block=attention if config.temporal_attention else skip,
        convolution_layer=convolution,
        resampling_layer=convolution if config.extra_temporal_convs else skip,
        up_twice=named(SHORTCUT_TEMPORAL, "shortcut_temporal", config.shortcut_temporal),
        mirrored=False,
        frame_positions=False,
    )


class GroupEmbedding(TemporalPart):
    """Skip-frames and perturbation level, merged into the time embedding by learned weights that start at zero."""

    def __init__(self, spec: UNetSpec) -> None:
        super().__init__()
        self.perturbation = ScalarEmbedding(spec)
        self.perturbation_merge = spec.layers.alpha()
        self.skip_frames = spec.layers.embedding(SKIP_FRAMES, spec.config.time_embed_dim)
        self.skip_frames_merge = spec.layers.alpha()

    def forward(self, time: Tensor, skip_frames: Tensor, perturbation: Tensor, memo: StageMemo | None = None) -> Tensor:
        """time (B, E), skip_frames (B,) long, perturbation (B,): (B, E)."""
        # The official code merges the two in different ways: (1 − α)·time + α·perturbation, but time + α·skip-frames.
        level = once(memo, self, lambda: self.perturbation(perturbation, time.dtype))
        skipped = once(memo, self.skip_frames, lambda: self.skip_frames_merge(time) * self.skip_frames(skip_frames))
        return torch.lerp(time, level, self.perturbation_merge(time)) + skipped

    def zero_layers(self) -> list[nn.Module]:
        return [self.perturbation_merge, self.skip_frames_merge]


def zero_base(keyframes: Tensor) -> Tensor:
    """Nothing is known beforehand: (B, C, G+1, h, w) to zeros (B, 3·C, G, h, w)."""
    return split_groups(linear_blend(keyframes))[1].zero_()


def blend_base(keyframes: Tensor) -> Tensor:
    """The groups of the linear blend of neighbouring keyframes: (B, C, G+1, h, w) to (B, 3·C, G, h, w)."""
    return split_groups(linear_blend(keyframes))[1]


def linear_blend(keyframes: Tensor) -> Tensor:
    """Linear interpolation over time: (B, C, G+1, h, w) to (B, C, 4G+1, h, w), keyframes in their places."""
    share = torch.arange(GROUP_FRAMES + 1, device=keyframes.device, dtype=keyframes.dtype) / (GROUP_FRAMES + 1)
    left, right = keyframes[:, :, :-1, None], keyframes[:, :, 1:, None]
    frames = torch.lerp(left, right, share.reshape(-1, 1, 1)).flatten(2, 3)
    return torch.cat((frames, keyframes[:, :, -1:]), dim=2)


GROUP_BASES: dict[str, Callable[[Tensor], Tensor]] = {"zero": zero_base, "blend": blend_base}
"""What the diffused groups are differences from: nothing (the paper, the official code) or the linear blend, which a
small model then never has to learn."""


class InterpolationUNet(Trunk):
    """Predicts the three frames of every group at once; its temporal layers run across the groups of a video."""

    def __init__(
        self,
        config: InterpolationConfig,
        operations: Any = TorchOperations,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if config.trunk.temporal != "none":
            raise ValueError(f"trunk.temporal must be 'none' for interpolation; got {config.trunk.temporal!r}")
        spec = UNetSpec(config.trunk, LayerFactory(operations, device, dtype), temporal_placement(config))
        super().__init__(spec)
        self.base = named(GROUP_BASES, "base", config.base)
        self.pool_first = named(TEXT_POOLING, "text_pooling", config.text_pooling)
        self.fixed_perturbation = config.fixed_perturbation
        self.group_embedding = GroupEmbedding(spec)

    def forward(self, x: Tensor, t: Tensor, condition: InterpolationCondition) -> Tensor:
        """Noisy groups x (B, 12, G, h, w), three frames × four channels, at times t (B,): v, (B, 12, G, h, w)."""
        keyframes = condition.keyframes
        if keyframes.shape[2] != x.shape[2] + 1:
            raise ValueError(
                f"keyframes must be one more than the groups; got {keyframes.shape[2]} for {x.shape[2]} groups"
            )
        inputs = torch.cat((keyframes[:, :, :-1], x, keyframes[:, :, 1:]), dim=1)
        return self.predict(inputs, t, condition)

    def predict(self, inputs: Tensor, t: Tensor, condition: InterpolationCondition) -> Tensor:
        """The same from whole inputs (B, 20, G, h, w): left keyframe, three noisy frames, right keyframe."""
        mask = condition.mask[:, None, None, :]
        time = F.silu(self.embed_time(t, condition, mask, inputs.dtype))
        trunk_condition = TrunkCondition(
            num_frames=inputs.shape[2],  # groups stand where a keyframe U-Net has frames
            temporal=True,
            time=time,
            temporal_norms=time,
            temporal_attention_norm=time,
            context=condition.context,
            mask=mask,
            merge_mask=condition.temporal[:, None, None, None, None],
            hooks=condition.hooks,
            memo=condition.memo,
        )
        return self.run_levels(inputs, self.in_layer, only_mixed(trunk_condition))

    def embed_time(self, t: Tensor, condition: InterpolationCondition, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """Diffusion time, pooled text, perturbation and skip-frames as (B, E)."""
        level = condition.perturbation
        if self.fixed_perturbation is not None:  # 1.0's code feeds zeros, whatever the keyframes went through
            level = torch.full_like(level, self.fixed_perturbation)
        time = self.to_time_embed(t, dtype)
        if self.pool_first:
            time = self.feature_pooling(time, condition.context, mask, condition.memo)
            return self.group_embedding(time, condition.skip_frames, level, condition.memo)
        time = self.group_embedding(time, condition.skip_frames, level, condition.memo)
        return self.feature_pooling(time, condition.context, mask, condition.memo)


INPUT_COPIES: dict[str, tuple[float, float, float]] = {
    "first": (1.0, 0.0, 0.0),
    "middle": (0.0, 1.0, 0.0),
    "mean": (1 / 3, 1 / 3, 1 / 3),
}
"""How much of the image model's input kernel each of the three noisy frames gets."""


def inflate_interpolation(
    image_unet: UNet, config: InterpolationConfig, input_copy: str = "first", output_copy: str = "replicate"
) -> InterpolationUNet:
    """Build the interpolation U-Net from a text-to-image one (appendix 9).

    The input convolution is padded with zeros: by `input_copy` the image kernel goes to the `first` noisy frame (the
    paper), to the `middle` one, or is shared out (`mean`); `fresh` starts it anew. The output convolution is replicated
    three times, so that all frames start equal, or left `fresh`, which breaks the symmetry sooner. Every α is zero.
    """
    named({**INPUT_COPIES, "fresh": None}, "input_copy", input_copy)
    named({"replicate": None, "fresh": None}, "output_copy", output_copy)
    parameter = next(image_unet.parameters())
    unet = InterpolationUNet(config, device=parameter.device, dtype=parameter.dtype)
    initialise_temporal(unet)
    replaced = ["in_layer.weight"] if input_copy != "fresh" else ["in_layer.weight", "in_layer.bias"]
    copy_weights(image_unet, unet, except_for=(*replaced, "out_layer.2.weight", "out_layer.2.bias"))
    with torch.no_grad():
        if input_copy != "fresh":
            kernel, channels = image_unet.in_layer.weight, image_unet.config.in_channels
            unet.in_layer.weight.zero_()
            for frame, share in enumerate(INPUT_COPIES[input_copy]):
                start = channels * (1 + frame)  # after the left keyframe
                unet.in_layer.weight[:, start : start + channels] = share * kernel
        if output_copy != "fresh":
            source: Any = image_unet.out_layer[2]
            target: Any = unet.out_layer[2]
            target.weight.copy_(source.weight.repeat(GROUP_FRAMES, 1, 1, 1))
            target.bias.copy_(source.bias.repeat(GROUP_FRAMES))
    return unet


def split_groups(video: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, 4G+1, h, w) to its keyframes (B, C, G+1, h, w) and groups (B, 3·C, G, h, w), frame-major."""
    frames = video.shape[2]
    if frames < 5 or frames % 4 != 1:
        raise ValueError(f"the number of frames must be 4·G + 1 with G at least 1; got {frames}")
    inner = video[:, :, :-1].unflatten(2, (-1, GROUP_FRAMES + 1))[:, :, :, 1:]
    return video[:, :, :: GROUP_FRAMES + 1], rearrange(inner, "b c g f h w -> b (f c) g h w")


def merge_groups(keyframes: Tensor, groups: Tensor) -> Tensor:
    """The inverse of `split_groups`: (B, C, G+1, h, w) and (B, 3·C, G, h, w) to (B, C, 4G+1, h, w)."""
    inner = rearrange(groups, "b (f c) g h w -> b c g f h w", f=GROUP_FRAMES)
    video = torch.cat((keyframes[:, :, :-1, None], inner), dim=3).flatten(2, 3)
    return torch.cat((video, keyframes[:, :, -1:]), dim=2)


def interpolation_trunk(image: UNetConfig, **changes: Any) -> UNetConfig:
    """The trunk's config of an interpolation U-Net made from a text-to-image U-Net's config."""
    channels = image.in_channels
    inputs, outputs = (GROUP_FRAMES + 2) * channels, GROUP_FRAMES * channels
    return dataclasses.replace(image, in_channels=inputs, out_channels=outputs, temporal="none", **changes)

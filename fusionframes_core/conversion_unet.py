"""Official U-Net keys to ours, as data: regular expressions that apply in order, each wherever it matches."""

from __future__ import annotations

import re

from torch import Tensor

Rules = tuple[tuple[str, str], ...]

COMMON: Rules = (
    (r"context_mlp\.1\.", "modulation."),
    (r"^to_time_embed\.1\.", "to_time_embed.linear_in."),
    (r"^to_time_embed\.3\.", "to_time_embed.linear_out."),
    (r"resnet_attn_blocks\.(\d+)\.0\.", r"stages.\1.in_resnet."),
    (r"resnet_attn_blocks\.(\d+)\.1\.", r"stages.\1.attention."),
    (r"resnet_attn_blocks\.(\d+)\.2\.", r"stages.\1.out_resnet."),
)

KEYFRAME: Rules = (
    *COMMON,
    (r"resnet_attn_blocks\.(\d+)\.3\.", r"stages.\1.in_temporal."),
    (r"resnet_attn_blocks\.(\d+)\.4\.", r"stages.\1.out_temporal."),
    (r"temporal_resnet_blocks\.(\d+)\.0\.", r"norms.\1."),
    (r"temporal_resnet_blocks\.(\d+)\.2\.", r"projections.\1."),
    (r"temporal_attention_block\.temporal_norm\.", "temporal_attention_block.in_norm."),  # 1.1
    (r"temporal_attention_block\.ff_norm\.", "temporal_attention_block.out_norm."),  # 1.1
    (r"temporal_attention_block\.temporal_attention\.", "temporal_attention_block.attention."),
    (r"^to_temporal_embed\.", "frame_embedding.position."),
    (r"^temporal_noise_aug_time_encoding\.", "frame_embedding.noise_augmentation."),  # 1.1
    (r"^temporal_motion_score_encoding\.", "frame_embedding.motion_score."),  # 1.1
    (r"^(frame_embedding\.\w+)\.1\.", r"\1.linear_in."),
    (r"^(frame_embedding\.\w+)\.3\.", r"\1.linear_out."),
)

INTERPOLATION: Rules = (
    *COMMON,
    (r"temporal_projection_new\.temporal_projection\.", "temporal.projection."),  # 1.1
    (r"temporal_projection_new\.temporal_merge$", "temporal.merge.alpha.weight"),  # 1.1
    (r"(resnet_blocks\.\d+)\.temporal_projection\.", r"\1.temporal.projection."),  # 1.0
    (r"(resnet_blocks\.\d+)\.temporal_merge$", r"\1.temporal.merge.alpha.weight"),  # 1.0
    (r"temporal_attention_block\.temporal_merge1$", "temporal_attention_block.merge_attention.alpha.weight"),  # 1.1
    (r"temporal_attention_block\.temporal_merge2$", "temporal_attention_block.merge_feed_forward.alpha.weight"),  # 1.1
    (r"^perturbation_to_time_embed\.1\.", "group_embedding.perturbation.linear_in."),
    (r"^perturbation_to_time_embed\.3\.", "group_embedding.perturbation.linear_out."),
    (r"^time_embed_merge$", "group_embedding.perturbation_merge.weight"),
    (r"^skip_embeddings\.", "group_embedding.skip_frames."),
    (r"^skip_merge$", "group_embedding.skip_frames_merge.weight"),
)

UNET_RULES: dict[str, Rules] = {"keyframe": KEYFRAME, "interpolation": INTERPOLATION}


def convert_unet(state: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Rename an official U-Net state dict; `kind` is "keyframe" (or text-to-image) or "interpolation"."""
    if kind not in UNET_RULES:
        raise ValueError(f"kind must be one of {', '.join(UNET_RULES)}; got {kind!r}")
    return {rename(key, UNET_RULES[kind]): value for key, value in state.items()}


def rename(key: str, rules: Rules) -> str:
    """One key through the rules."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key

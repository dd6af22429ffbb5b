"""Official parameter names and ours, as data: pairs of templates that apply in order, in either direction.

In a template `{n}` is a number; `^` and `$` are the ends of the name. No value is ever changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import TypeVar

Rules = tuple[tuple[str, str], ...]
Value = TypeVar("Value")


def _embedding(official: str, ours: str) -> Rules:
    """A sinusoidal embedding's two linear layers."""
    return ((f"^{official}.1.", f"^{ours}.linear_in."), (f"^{official}.3.", f"^{ours}.linear_out."))


_TRUNK: Rules = (
    ("context_mlp.1.", "modulation."),
    *_embedding("to_time_embed", "to_time_embed"),
    ("resnet_attn_blocks.{n}.0.", "stages.{n}.in_resnet."),
    ("resnet_attn_blocks.{n}.1.", "stages.{n}.attention."),
    ("resnet_attn_blocks.{n}.2.", "stages.{n}.out_resnet."),
)
_KEYFRAME: Rules = (
    *_TRUNK,
    ("resnet_attn_blocks.{n}.3.", "stages.{n}.in_temporal."),
    ("resnet_attn_blocks.{n}.4.", "stages.{n}.out_temporal."),
    ("temporal_resnet_blocks.{n}.0.", "norms.{n}."),
    ("temporal_resnet_blocks.{n}.2.", "projections.{n}."),
    ("temporal_attention_block.temporal_attention.", "temporal_attention_block.attention."),
    *_embedding("to_temporal_embed", "frame_embedding.position"),
)
_INTERPOLATION: Rules = (
    *_TRUNK,
    *_embedding("perturbation_to_time_embed", "group_embedding.perturbation"),
    ("^time_embed_merge$", "^group_embedding.perturbation_merge.weight$"),
    ("^skip_embeddings.", "^group_embedding.skip_frames."),
    ("^skip_merge$", "^group_embedding.skip_frames_merge.weight$"),
)
# 1.1's add_new_temporal_params: (official, ours) of a layer that has a convolution and a merge weight.
_EXTRA: Rules = tuple(
    (f"{official}.{theirs}", f"{ours}.{mine}")
    for official, ours in (
        ("temporal_post_upsample", "temporal_up"),
        ("temporal_post_downsample", "temporal_down"),
        ("^temporal_conv_in", "^temporal_in"),
        ("^temporal_conv_out", "^temporal_out"),
    )
    for theirs, mine in (("temporal_projection.", "projection."), ("temporal_merge$", "merge.alpha.weight$"))
)
_MOVQ: Rules = (
    (".temporal_projection1.", ".temporal1.projection."),
    (".temporal_projection2.", ".temporal2.projection."),
    (".temporal_merge1$", ".temporal1.merge.weight$"),
    (".temporal_merge2$", ".temporal2.merge.weight$"),
)

RULES: dict[tuple[str, str], Rules] = {
    ("keyframe", "1.0"): _KEYFRAME,
    ("keyframe", "1.1"): (
        *_KEYFRAME,
        ("temporal_attention_block.temporal_norm.", "temporal_attention_block.in_norm."),
        ("temporal_attention_block.ff_norm.", "temporal_attention_block.out_norm."),
        *_embedding("temporal_noise_aug_time_encoding", "frame_embedding.noise_augmentation"),
        *_embedding("temporal_motion_score_encoding", "frame_embedding.motion_score"),
    ),
    ("interpolation", "1.0"): (
        *_INTERPOLATION,
        ("resnet_blocks.{n}.temporal_projection.", "resnet_blocks.{n}.temporal.projection."),
        ("resnet_blocks.{n}.temporal_merge$", "resnet_blocks.{n}.temporal.merge.alpha.weight$"),
    ),
    ("interpolation", "1.1"): (
        *_INTERPOLATION,
        *_EXTRA,
        ("temporal_projection_new.temporal_projection.", "temporal.projection."),
        ("temporal_projection_new.temporal_merge$", "temporal.merge.alpha.weight$"),
        ("temporal_attention_block.temporal_merge1$", "temporal_attention_block.merge_attention.alpha.weight$"),
        ("temporal_attention_block.temporal_merge2$", "temporal_attention_block.merge_feed_forward.alpha.weight$"),
    ),
    ("movq", "1.0"): _MOVQ,
    ("movq", "1.1"): _MOVQ,
    # transformers' names of a T5 encoder (Flan-UL2), its embedding under the one name that the encoder shares
    ("t5", "1.0"): (("^encoder.", "^t5."), ("^shared.", "^t5.embed_tokens.")),
    ("t5", "1.1"): (("^encoder.", "^t5."), ("^shared.", "^t5.embed_tokens.")),
}

# The text's parts lie in several official files: (kind of file, version) -> rules for what is not its U-Net.
TEXT_RULES: dict[tuple[str, str], Rules] = {
    ("keyframe", "1.0"): (
        ("^null_embedding$", "^null_embedding$"),
        ("^projections.t5.0.", "^projection."),
        ("^projections.t5.1.", "^norm."),
    ),
    ("keyframe", "1.1"): (("^null_embedding$", "^null_embedding$"),),
    ("interpolation", "1.0"): (("^null_embedding$", "^interpolation.null_embedding$"),),
    ("interpolation", "1.1"): (("^null_embedding$", "^interpolation.null_embedding$"),),
    ("projections", "1.1"): (
        ("^projection_base.0.", "^projection."),
        ("^projection_base.1.", "^norm."),
        ("^projection_interpolation.0.", "^interpolation.projection."),
        ("^projection_interpolation.1.", "^interpolation.norm."),
    ),
}


def ours_from_official(name: str, rules: Rules) -> str:
    """An official name under ours."""
    for official, ours in rules:
        name = _replace(name, official, ours)
    return name


def official_from_ours(name: str, rules: Rules) -> str:
    """Our name under the official one: the rules the other way, last one first."""
    for official, ours in reversed(rules):
        name = _replace(name, ours, official)
    return name


def to_ours(state: Mapping[str, Value], kind: str, version: str) -> dict[str, Value]:
    """A whole model's values (tensors, shapes, ...) under our names."""
    return _rename(state, kind, version, ours_from_official)


def to_official(state: Mapping[str, Value], kind: str, version: str) -> dict[str, Value]:
    """A whole model's values under the official names."""
    return _rename(state, kind, version, official_from_ours)


def _rename(state: Mapping[str, Value], kind: str, version: str, rename: object) -> dict[str, Value]:
    if (kind, version) not in RULES:
        known = ", ".join(f"{kind} {version}" for kind, version in RULES)
        raise ValueError(f"kind and version must be one of {known}; got {kind} {version}")
    renamed = {rename(name, RULES[kind, version]): value for name, value in state.items()}  # type: ignore[operator]
    if len(renamed) != len(state):
        raise ValueError(f"two names of the {kind} {version} model became one")
    return renamed


def _replace(name: str, source: str, target: str) -> str:
    pattern, replacement = _compile(source, target)
    return pattern.sub(replacement, name)


@cache
def _compile(source: str, target: str) -> tuple[re.Pattern[str], str]:
    start, end = source.startswith("^"), source.endswith("$")
    body = re.escape(source.strip("^$")).replace(r"\{n\}", r"(\d+)")
    # A template that starts with a word starts a part of the name: "norms." is none of "more_norms."
    before = "^" if start else "" if body.startswith(r"\.") else r"(?<![^.])"
    replacement = target.strip("^$").replace("{n}", r"\1")
    return re.compile(f"{before}{body}{'$' if end else ''}"), replacement

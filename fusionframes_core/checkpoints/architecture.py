"""The configuration of a model, read off its tensors' names (ours) and shapes.

Two things leave no trace in a file: the size of an attention head and the number of norm groups. They are the official
64 and 32 unless `Hints` says otherwise, which comes from `configs.json` or from a file's own metadata.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import InterpolationConfig, MoVQConfig, TextEncoderConfig, UNetConfig
from ..models.movq.movq_blocks import TemporalParts
from ..models.movq.movq_temporal import DECODERS

Shapes = Mapping[str, tuple[int, ...]]
IMAGE_CHUNK, VIDEO_CHUNK = 16, 8  # frames decoded at once: an image decoder does not mind, 1.1's was trained on 8


@dataclass(frozen=True)
class Hints:
    """What shapes do not tell."""

    head_dim: int = 64
    groups: int = 32


def unet_config(shapes: Shapes, version: str | None = None, hints: Hints | None = None) -> UNetConfig:
    """A text-to-image or keyframe U-Net's configuration. `version` None: 1.1 if it takes stills."""
    video = "frame_embedding.position.linear_in.weight" in shapes
    stills = "image_in_layer.weight" in shapes
    conditioning = "sum" if version == "1.1" or stills else "separate"
    conditioning = "mixed" if "combine.text.weight" in shapes else conditioning
    return UNetConfig(
        **_trunk(shapes, hints or Hints()),
        temporal="conv1d_attn1d_blocks" if video else "none",
        temporal_conditioning=conditioning,
        temporal_place="grid" if any(name.endswith(".place.weight") for name in shapes) else "none",
        image_input=stills,
        motion_score="frame_embedding.motion_score.linear_in.weight" in shapes,
        noise_augmentation="frame_embedding.noise_augmentation.linear_in.weight" in shapes,
    )


def interpolation_config(shapes: Shapes, version: str | None = None, hints: Hints | None = None) -> InterpolationConfig:
    """An interpolation U-Net's configuration. `version` None: 1.1 if it has temporal attention."""
    attention = any(".temporal_attention_block." in name for name in shapes)
    newer = version == "1.1" or (version is None and attention)
    trunk = UNetConfig(
        **_trunk(shapes, hints or Hints()),
        temporal="none",
        temporal_conditioning="separate",
        temporal_place="none",
        image_input=False,
        motion_score=False,
        noise_augmentation=False,
    )
    return InterpolationConfig(
        trunk=trunk,
        temporal_merge="convex",
        temporal_attention=attention,
        extra_temporal_convs=any(name.startswith("temporal_in.") for name in shapes),
        fixed_perturbation=None if newer else 0,
        text_pooling="after" if newer else "before",
        base="zero",
        shortcut_temporal="up_twice" if newer else "each",
    )


def movq_config(shapes: Shapes, version: str | None = None, hints: Hints | None = None) -> MoVQConfig:
    """An autoencoder's configuration. A decoder of videos has 1.1's norms, an image decoder every frame's own."""
    channels = shapes["encoder.conv_in.weight"][0]
    widths = [shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] for level in _numbers(shapes, r"encoder\.down\.")]
    levels = range(len(widths))
    decoder = _decoder(shapes)
    return MoVQConfig(
        latent_channels=shapes["post_quant_conv.weight"][0],
        channels=channels,
        channel_mult=tuple(_whole("channels", width, channels) for width in widths),
        num_res_blocks=len(_numbers(shapes, r"encoder\.down\.0\.block\.")),
        attention_levels=tuple(level for level in levels if f"encoder.down.{level}.attn.0.q.weight" in shapes),
        groups=(hints or Hints()).groups,
        patch_size=math.isqrt(shapes["encoder.conv_in.weight"][1] // 3),
        latent_activation="none",
        decoder=decoder,
        attention_norm="per_frame" if decoder == "image" and version != "1.1" else "first_frame",
        temporal_merge="convex",
        decode_chunk=IMAGE_CHUNK if decoder == "image" else VIDEO_CHUNK,
    )


def text_config(
    shapes: Shapes,
    feed_forward: str | None = None,
    max_tokens: int = 128,
    like: TextEncoderConfig | None = None,
) -> TextEncoderConfig:
    """A text encoder's configuration from T5's tensors and the projection's, its interpolation head as in `like`.

    Which function gates the feed-forward leaves no trace: `feed_forward` names it, None: Flan-UL2's.
    """
    heads = shapes["t5.block.0.layer.0.SelfAttention.relative_attention_bias.weight"][1]
    gated = "t5.block.0.layer.1.DenseReluDense.wi_0.weight" in shapes
    layer = "t5.block.0.layer.1.DenseReluDense." + ("wi_0.weight" if gated else "wi.weight")
    return TextEncoderConfig(
        vocab_size=shapes["t5.embed_tokens.weight"][0],
        d_model=shapes["t5.embed_tokens.weight"][1],
        d_kv=_whole("d_kv", shapes["t5.block.0.layer.0.SelfAttention.q.weight"][0], heads),
        d_ff=shapes[layer][0],
        num_layers=len(_numbers(shapes, r"t5\.block\.")),
        num_heads=heads,
        feed_forward=feed_forward or ("gated-silu" if gated else "relu"),
        max_tokens=max_tokens,
        context_dim=shapes["projection.weight"][0],
        fixed_length=False,
        interpolation_head=like.interpolation_head if like else "shared",
        interpolation_projection=like.interpolation_projection if like else "own",
        official_negative=like.official_negative if like else "own",
    )


def _trunk(shapes: Shapes, hints: Hints) -> dict[str, Any]:
    """The fields that every U-Net shares."""
    levels = _numbers(shapes, r"down_samples\.")
    stage, block = "down_samples.{}.stages.{}", "resnet_blocks.{}.projection.weight"
    widths = [shapes[f"{stage.format(level, 0)}.out_resnet.{block.format(3)}"][0] for level in levels]
    base = widths[0] if all(width % widths[0] == 0 for width in widths) else math.gcd(*widths)
    first = f"{stage.format(0, 0)}.in_resnet.{block.format(0)}"
    inputs = shapes["in_layer.weight"][0]
    ratios = [
        _whole("expansion_ratio", shape[0], shape[1])
        for name, shape in shapes.items()
        if name.endswith("self_attention_block.feed_forward.0.weight")
    ]
    return {
        "in_channels": shapes["in_layer.weight"][1],
        "out_channels": shapes["out_layer.2.weight"][0],
        "model_channels": base,
        "init_channels": inputs,
        "time_embed_dim": shapes["to_time_embed.linear_in.weight"][0],
        "context_dim": shapes["feature_pooling.attention.to_query.weight"][1],
        "groups": hints.groups,
        "head_dim": hints.head_dim,
        "expansion_ratio": ratios[0] if ratios else 4,
        "compression_ratio": _whole("compression_ratio", max(inputs, widths[0]), shapes[first][0]),
        "channel_mult": tuple(width // base for width in widths),
        "num_blocks": tuple(len(_numbers(shapes, rf"down_samples\.{level}\.stages\.")) for level in levels),
        "cross_attention": tuple(f"{stage.format(i, 0)}.attention.attention.to_key.weight" in shapes for i in levels),
        "self_attention": tuple(
            f"down_samples.{i}.self_attention_block.attention.to_key.weight" in shapes for i in levels
        ),
    }


def _decoder(shapes: Shapes) -> str:
    """The name of Table 3 whose temporal parts the tensors are."""
    decoder = [name for name in shapes if name.startswith("decoder.")]
    kernels = {shapes[name][2:] for name in decoder if name.endswith(".temporal1.projection.weight")}
    parts = TemporalParts(
        kernel=next(iter(kernels), None),  # type: ignore[arg-type]
        attention=any(".temporal_attn" in name for name in decoder),
        residual_blocks=any(".temporal_block" in name for name in decoder),
        inflated=len(shapes["decoder.conv_out.weight"]) == 5 or len(shapes["decoder.mid.block_1.conv1.weight"]) == 5,
    )
    for name, known in DECODERS.items():
        if known == parts:
            return name
    raise ValueError(f"no decoder of Table 3 has {parts}")


def _numbers(shapes: Shapes, prefix: str) -> range:
    """0..n−1 for names `<prefix>0...` to `<prefix>n−1...`."""
    found = {int(match[1]) for name in shapes if (match := re.match(rf"{prefix}(\d+)\.", name))}
    return range(len(found))


def _whole(what: str, value: int, unit: int) -> int:
    if unit < 1 or value % unit:
        raise ValueError(f"{what} cannot be read off the shapes: {value} is no multiple of {unit}")
    return value // unit

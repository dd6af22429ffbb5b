"""Sizes and choices of every model, as frozen dataclasses; `presets.py` holds the named values.

Each class round-trips through JSON: `to_dict(config)` and `from_dict(cls, data)`. Fields have no defaults but those
that came after the first model folders were written, which lack them.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class MoVQConfig:
    """MoVQ autoencoder (paper section 4.3). Spatial factor = patch_size · 2^(len(channel_mult) − 1)."""

    latent_channels: int
    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_levels: tuple[int, ...]  # indices into channel_mult whose blocks carry spatial attention
    groups: int
    patch_size: int  # pixels folded into channels before the first convolution; 1 in the official models
    latent_activation: str  # "none" (official) or "tanh": bounds latents to [-1, 1]
    decoder: str  # image, conv1, conv3, conv1_attn, conv3_attn, resnet_attn, conv2d_to_3d (Table 3)
    attention_norm: str  # "first_frame" (official: one latent modulates the whole chunk) or "per_frame"
    temporal_merge: str  # "convex": (1−α)·spatial + α·temporal (official); "residual": spatial + α·temporal (eq. 3)
    decode_chunk: int = 16  # frames decoded at once: as many as the decoder was trained with


@dataclass(frozen=True)
class TextEncoderConfig:
    """T5 encoder, then Linear(no bias) and LayerNorm to the U-Net's context."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    feed_forward: str  # transformers' feed_forward_proj, e.g. "gated-silu" for Flan-UL2
    max_tokens: int
    context_dim: int
    fixed_length: bool  # every context has max_tokens tokens, or (False, official) the longest prompt's and one more
    interpolation_head: str = "shared"  # or interpolation's own "null" embedding (1.0), or "full": a projection too
    interpolation_projection: str = "own"  # of a full head; "keyframes": 1.1's code uses the keyframes' for both
    official_negative: str = "own"  # how the official code reads a negative prompt: see NEGATIVE_READINGS


@dataclass(frozen=True)
class UNetConfig:
    """The trunk that every U-Net shares (text-to-image, keyframes, interpolation)."""

    in_channels: int
    out_channels: int
    model_channels: int
    init_channels: int
    time_embed_dim: int
    context_dim: int
    groups: int
    head_dim: int
    expansion_ratio: int
    compression_ratio: int
    channel_mult: tuple[int, ...]
    num_blocks: tuple[int, ...]
    cross_attention: tuple[bool, ...]
    self_attention: tuple[bool, ...]
    temporal: str  # a key of models.unet.temporal_layers.TEMPORAL_BLOCKS
    temporal_conditioning: str  # "separate" (1.0), "sum" (1.1) or "mixed": what conditions the temporal norms
    temporal_place: str  # "none" (official) or "grid": temporal norms know the position in the frame
    image_input: bool  # 1.1: a second input layer for still images, which skip every temporal block
    motion_score: bool  # 1.1
    noise_augmentation: bool  # 1.1


@dataclass(frozen=True)
class InterpolationConfig:
    """What the interpolation U-Net adds to the trunk (section 4.2, appendix 9); `trunk.temporal` is "none"."""

    trunk: UNetConfig  # in_channels 20, out_channels 12
    temporal_merge: str  # "residual": spatial + α·temporal (paper, eq. 3) or "convex" (official)
    temporal_attention: bool  # 1.1 adds temporal attention blocks beside the convolutions
    extra_temporal_convs: bool  # 1.1's add_new_temporal_params
    fixed_perturbation: int | None  # 1.0 always feeds 0 to the perturbation embedding; None: as given
    text_pooling: str  # pooled text joins the time embedding "before" (1.0) or "after" (1.1) the other embeddings merge
    base: str  # "zero" (official): groups are predicted as they are; "blend": as differences from the linear blend
    # Of extra_temporal_convs on a shortcut: "each" behind its own resampling, or "up_twice" (1.1's code): the one after
    # doubling runs once more in the place of the one after halving, which is never used.
    shortcut_temporal: str = "each"


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule of one U-Net, and how its makers sampled it: what is taken where nothing else is asked for."""

    schedule: str  # a key of sampling.schedule.SCHEDULES
    train_steps: int
    respaced: bool  # True: rebuilt with as many steps as are sampled (1.0); False: spaced over train_steps
    spacing: str  # "leading" or "trailing"; only for respaced=False
    zero_terminal_snr: bool
    prediction: str  # "epsilon", "v" or "x0"
    threshold_quantile: float | None  # dynamic thresholding of x0 per frame; None: clip to [-1, 1]
    sampler: str  # a key of sampling.sampler.SAMPLERS
    steps: int


@dataclass(frozen=True)
class ModelConfig:
    """Everything a model folder needs beside its weights."""

    name: str
    text: TextEncoderConfig
    keyframe: UNetConfig
    keyframe_schedule: ScheduleConfig
    interpolation: InterpolationConfig
    interpolation_schedule: ScheduleConfig
    movq: MoVQConfig
    num_frames: int  # keyframes that the model was trained with
    size: tuple[int, int]  # default (height, width) in pixels
    fps: float  # of the keyframes; every interpolation pass multiplies it by four
    frame_positions: str  # "spread": arange(0, 180, 180 // T) (1.0) or "index": arange(T) (1.1)
    guidance: float  # upstream's w of (1 + w)·c − w·u
    interpolation_guidance: float
    max_perturbation: int
    interpolation_text: bool  # 1.1: the prompt conditions interpolation, and context guidance drops it too
    drop_temporal: bool  # 1.1: context guidance's unconditional half (m = 0) has no temporal layers; 1.0 keeps them
    image_movq: MoVQConfig | None = None  # 1.1: the autoencoder of the first image; None: the video's
    image_noise: str = "gaussian"  # on the first image; "uniform" in [0, 1): 1.1's code


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], data: dict[str, Any]) -> T:
    """Rebuild `cls` from `to_dict`'s output. Raises ValueError that names unknown and missing keys."""
    hints = typing.get_type_hints(cls)
    fields: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    unknown, missing = sorted(set(data) - set(hints)), sorted(needed - set(data))
    if unknown or missing:
        raise ValueError(f"{cls.__name__}: unknown keys {unknown}, missing keys {missing}")
    return cls(**{key: _convert(hints[key], value) for key, value in data.items()})


def _convert(hint: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value)
    if typing.get_origin(hint) is tuple:
        return tuple(value)
    if isinstance(hint, types.UnionType):
        return None if value is None else _convert(typing.get_args(hint)[0], value)
    return value

"""Sizes and choices of every model, as frozen dataclasses; `presets.py` holds the named values.

Each class round-trips through JSON: `to_dict(config)` and `from_dict(cls, data)`. Fields have no defaults but those
that came after the first model folders were written, which lack them. The annotation is what a file may hold: the type,
and in `Annotated` the smallest and the largest number.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

T = TypeVar("T")
_LARGEST, _ABOVE_ZERO = sys.float_info.max, sys.float_info.min
MAX_COUNT = 2**20  # far above every size there is, and small enough that no shape overflows
Count: TypeAlias = Annotated[int, 1, MAX_COUNT]
Index: TypeAlias = Annotated[int, 0, MAX_COUNT]
Weight: TypeAlias = Annotated[float, 0, _LARGEST]
Rate: TypeAlias = Annotated[float, _ABOVE_ZERO, _LARGEST]
Share: TypeAlias = Annotated[float, _ABOVE_ZERO, 1]


@dataclass(frozen=True)
class MoVQConfig:
    """MoVQ autoencoder (paper section 4.3). Spatial factor = patch_size · 2^(len(channel_mult) − 1)."""

    latent_channels: Count
    channels: Count
    channel_mult: tuple[Count, ...]
    num_res_blocks: Count
    attention_levels: tuple[Index, ...]  # indices into channel_mult whose blocks carry spatial attention
    groups: Count
    patch_size: Count  # pixels folded into channels before the first convolution; 1 in the official models
    latent_activation: str  # "none" (official) or "tanh": bounds latents to [-1, 1]
    decoder: str  # image, conv1, conv3, conv1_attn, conv3_attn, resnet_attn, conv2d_to_3d (Table 3)
    attention_norm: str  # "first_frame" (official: one latent modulates the whole chunk) or "per_frame"
    temporal_merge: str  # "convex": (1−α)·spatial + α·temporal (official); "residual": spatial + α·temporal (eq. 3)
    decode_chunk: Count = 16  # frames decoded at once: as many as the decoder was trained with


@dataclass(frozen=True)
class TextEncoderConfig:
    """T5 encoder, then Linear(no bias) and LayerNorm to the U-Net's context."""

    vocab_size: Count
    d_model: Count
    d_kv: Count
    d_ff: Count
    num_layers: Count
    num_heads: Count
    feed_forward: str  # transformers' feed_forward_proj, e.g. "gated-silu" for Flan-UL2
    max_tokens: Count
    context_dim: Count
    fixed_length: bool  # every context has max_tokens tokens, or (False, official) the longest prompt's and one more
    interpolation_head: str = "shared"  # or interpolation's own "null" embedding (1.0), or "full": a projection too
    interpolation_projection: str = "own"  # of a full head; "keyframes": 1.1's code uses the keyframes' for both
    official_negative: str = "own"  # how the official code reads a negative prompt: see NEGATIVE_READINGS


@dataclass(frozen=True)
class UNetConfig:
    """The trunk that every U-Net shares (text-to-image, keyframes, interpolation)."""

    in_channels: Count
    out_channels: Count
    model_channels: Count
    init_channels: Count
    time_embed_dim: Count
    context_dim: Count
    groups: Count
    head_dim: Count
    expansion_ratio: Count
    compression_ratio: Count
    channel_mult: tuple[Count, ...]
    num_blocks: tuple[Count, ...]
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
    fixed_perturbation: Index | None  # 1.0 always feeds 0 to the perturbation embedding; None: as given
    text_pooling: str  # pooled text joins the time embedding "before" (1.0) or "after" (1.1) the other embeddings merge
    base: str  # "zero" (official): groups are predicted as they are; "blend": as differences from the linear blend
    # Of extra_temporal_convs on a shortcut: "each" behind its own resampling, or "up_twice" (1.1's code): the one after
    # doubling runs once more in the place of the one after halving, which is never used.
    shortcut_temporal: str = "each"


@dataclass(frozen=True)
class ScheduleConfig:
    """Noise schedule of one U-Net, and how its makers sampled it: what is taken where nothing else is asked for."""

    schedule: str  # a key of sampling.schedule.SCHEDULES
    train_steps: Count
    respaced: bool  # True: rebuilt with as many steps as are sampled (1.0); False: spaced over train_steps
    spacing: str  # "leading" or "trailing"; only for respaced=False
    zero_terminal_snr: bool
    prediction: str  # "epsilon", "v" or "x0"
    threshold_quantile: Share | None  # dynamic thresholding of x0 per frame; None: clip to [-1, 1]
    sampler: str  # a key of sampling.sampler.SAMPLERS
    steps: Count


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
    num_frames: Count  # keyframes that the model was trained with
    size: tuple[Count, Count]  # default (height, width) in pixels
    fps: Rate  # of the keyframes; every interpolation pass multiplies it by four
    frame_positions: str  # "spread": arange(0, 180, 180 // T) (1.0) or "index": arange(T) (1.1)
    guidance: Weight  # upstream's w of (1 + w)·c − w·u
    interpolation_guidance: Weight
    max_perturbation: Index
    interpolation_text: bool  # 1.1: the prompt conditions interpolation, and context guidance drops it too
    drop_temporal: bool  # 1.1: context guidance's unconditional half (m = 0) has no temporal layers; 1.0 keeps them
    image_movq: MoVQConfig | None = None  # 1.1: the autoencoder of the first image; None: the video's
    image_noise: str = "gaussian"  # on the first image; "uniform" in [0, 1): 1.1's code


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], data: Mapping[str, Any], name: str = "") -> T:
    """Rebuild `cls` from `to_dict`'s output, which lies in a larger configuration under `name`.

    Raises ValueError that names unknown and missing keys, or the first value that its field does not allow.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{name or cls.__name__} must be an object with keys; got {reprlib.repr(data)}")
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    unknown, missing = sorted(set(data) - set(hints)), sorted(needed - set(data))
    if unknown or missing:
        raise ValueError(f"{cls.__name__}: unknown keys {unknown}, missing keys {missing}")
    inside = f"{name}." if name else ""
    return cls(**{key: _convert(hints[key], value, inside + key) for key, value in data.items()})


def _convert(hint: Any, value: Any, name: str) -> Any:
    """A value of JSON as its field has it. Raises ValueError that says what is allowed."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(arguments[0], value, name)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, name)
    if origin is tuple:
        return _convert_list(arguments, value, name)
    kind, *limits = arguments if origin is Annotated else (hint,)
    of_kind = isinstance(value, (int, float) if kind is float else kind)
    if of_kind and limits:  # NaN is outside of every limits
        of_kind = not isinstance(value, bool) and limits[0] <= value <= limits[1]
    if not of_kind:
        raise ValueError(f"{name} must be {_words(kind, limits)}; got {reprlib.repr(value)}")
    return value


def _convert_list(arguments: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    length = None if arguments[-1] is Ellipsis else len(arguments)
    if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
        wanted = "a list" if length is None else f"a list of {length}"
        raise ValueError(f"{name} must be {wanted}; got {reprlib.repr(value)}")
    return tuple(_convert(arguments[0], one, f"{name}[{index}]") for index, one in enumerate(value))


def _words(kind: type, limits: list[float]) -> str:
    if not limits:
        return {bool: "true or false", str: "text"}[kind]
    number = "a whole number" if kind is int else "a finite number"
    least = "above 0" if limits[0] == _ABOVE_ZERO else f"of at least {limits[0]}"
    return f"{number} {least}" + (f" and at most {limits[1]}" if limits[1] != _LARGEST else "")

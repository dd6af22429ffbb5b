"""CONDITIONING values: schedules of prompts, what interpolation is asked for, and files of encoded prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....fusionframes_core.checkpoints.state_dict import read_weights, save_weights
from ....fusionframes_core.models.unet.interpolation_unet import linear_blend
from ....fusionframes_core.sampling.first_frame import FirstFrame
from ....fusionframes_core.sampling.options import InterpolationOptions
from ..model.hosted_models import SETTINGS

MASK = "attention_mask"


@dataclass(frozen=True)
class ConditioningPair:
    """The CONDITIONINGs of classifier-free guidance: `negative` is the negative prompt's, or the null context."""

    positive: Any
    negative: Any


@dataclass(frozen=True)
class FirstFrameConditionings:
    """The CONDITIONINGs of 1.1's three-way guidance: text and first frame, the first frame alone, neither."""

    positive: Any
    image_only: Any
    negative: Any


def text_conditionings(text: Any, negative: Any | None) -> ConditioningPair:
    """The pair of an encoded prompt and a negative one; without that the null context."""
    return ConditioningPair(text, negative or unconditional(text))


def encode(clip: Any, prompt: str) -> Any:
    """A prompt through any CLIP."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def unconditional(like: Any) -> Any:
    """The null context with as many tokens as another conditioning has: zeros, which our models replace."""
    return [[torch.zeros_like(like[0][0]), {}]]


def schedule(conditionings: list[tuple[int, Any]], num_frames: int, blend: bool) -> Any:
    """One conditioning of several, each at a keyframe; between two of them they fade, or switch at the later one."""
    places = [place for place, _ in conditionings]
    frames = torch.arange(num_frames, dtype=torch.float32)
    scheduled = []
    for index, (place, conditioning) in enumerate(conditionings):
        after = ramp(frames, places[index - 1], place, blend) if index else torch.ones(num_frames)
        last = index + 1 == len(places)
        before = torch.zeros(num_frames) if last else ramp(frames, place, places[index + 1], blend)
        weights = (after - before).view(1, num_frames, 1, 1)
        options = {"mask": weights, "mask_strength": 1.0, "set_area_to_bounds": False}
        scheduled += [[context, {**entry, **options}] for context, entry in conditioning]
    return scheduled


def ramp(frames: Tensor, start: int, stop: int, blend: bool) -> Tensor:
    """0 up to `start`, 1 from `stop` on."""
    if blend:
        return ((frames - start) / (stop - start)).clamp(0, 1)
    return (frames >= stop).float()


def interpolation_conditionings(text: Any | None, options: InterpolationOptions) -> ConditioningPair:
    """The pair of context guidance: the network sees the given frames (and the text, if it reads any), or neither."""
    numbers = {"skip_frames": options.skip_frames, "perturbation": options.perturbation}
    entries = text or [[None, {}]]
    positive = [[context, {**_timeless(entry), SETTINGS: {**numbers, "informed": True}}] for context, entry in entries]
    null = unconditional(text)[0][0] if text else None
    return ConditioningPair(positive, [[null, {SETTINGS: {**numbers, "informed": False}}]])


def interpolation_latents(frames: Tensor) -> Tensor:
    """Frames (B, 4, T, h, w) in every fourth place of latents (B, 4, 4T − 3, h, w), blended between them."""
    return linear_blend(frames.float())


def still_conditionings(pair: ConditioningPair) -> ConditioningPair:
    """The pair for a still from a keyframe model, whose temporal parts are skipped then."""
    settings = {"still": True}
    return ConditioningPair(_with(pair.positive, settings), _with(pair.negative, settings))


def first_frame_conditionings(pair: ConditioningPair, first: FirstFrame) -> FirstFrameConditionings:
    """1.1's three conditions for keyframes that continue a first frame of one video."""
    scores = {"motion_score": first.motion_score, "noise_augmentation": first.noise_augmentation}
    given = {"first": first.latent, **scores}
    return FirstFrameConditionings(
        _with(pair.positive, given), _with(pair.negative, given), _with(pair.negative, scores)
    )


def _with(conditioning: Any, settings: dict[str, Any]) -> Any:
    """A CONDITIONING whose every entry brings these settings for our models."""
    return [[context, {**options, SETTINGS: settings}] for context, options in conditioning]


def _timeless(options: dict[str, Any]) -> dict[str, Any]:
    """Without a schedule's mask, which counts keyframes."""
    return {key: value for key, value in options.items() if key != "mask"}


def save(conditioning: Any, file: Path) -> None:
    """Write contexts and masks. Raises ValueError for what else a conditioning may carry."""
    tensors = {}
    for index, (context, options) in enumerate(conditioning):
        extra = sorted(key for key, value in options.items() if value is not None and key not in (MASK, "mask"))
        extra = [key for key in extra if key not in ("pooled_output", "mask_strength", "set_area_to_bounds")]
        if extra:
            raise ValueError(f"conditioning must be a prompt's, encoded or scheduled; this one has {', '.join(extra)}")
        tensors[f"{index}.context"] = context
        tensors |= {f"{index}.{key}": options[key] for key in (MASK, "mask") if options.get(key) is not None}
    save_weights(tensors, file, dtype=None)


def load(file: Path) -> Any:
    """Read what `save` wrote. Raises ValueError when the file is missing or no conditioning."""
    tensors = read_weights(file)
    count = sum(key.endswith(".context") for key in tensors)
    if not count:
        raise ValueError(f"{file.name} is no conditioning: FusionFrames Save Conditioning writes them")
    entries = []
    for index in range(count):
        options: dict[str, Any] = {"pooled_output": None}
        options |= {key: tensors[f"{index}.{key}"] for key in (MASK, "mask") if f"{index}.{key}" in tensors}
        if "mask" in options:
            options |= {"mask_strength": 1.0, "set_area_to_bounds": False}
        entries.append([tensors[f"{index}.context"], options])
    return entries

"""CONDITIONING values: schedules of prompts, what interpolation is asked for, and files of encoded prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....fusionframes_core.checkpoints.state_dict import read_weights, save_weights
from ....fusionframes_core.models.unet.interpolation_unet import linear_blend
from ..model.hosted_models import SETTINGS

MASK = "attention_mask"


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


def prepare_interpolation(
    latents: Tensor, skip_frames: int, perturbation: int, text: Any | None
) -> tuple[Any, Any, Tensor]:
    """(positive, negative, latents (B, 4, 4T − 3, h, w)) for an interpolation MODEL and any sampler."""
    asked = {"skip_frames": skip_frames, "perturbation": perturbation}
    entries = text or [[None, {}]]
    positive = [[context, {**_timeless(entry), SETTINGS: {**asked, "informed": True}}] for context, entry in entries]
    nothing = unconditional(text)[0][0] if text else None
    negative = [[nothing, {SETTINGS: {**asked, "informed": False}}]]
    return positive, negative, linear_blend(latents.float())


def prepare_still(text: Any, negative: Any) -> tuple[Any, Any]:
    """(positive, negative) for a still from a keyframe model, whose temporal parts are skipped then."""
    return _with(text, still=True), _with(negative or unconditional(text), still=True)


def prepare_first_frame(
    text: Any, negative: Any, first: Tensor, motion_score: float, noise_augmentation: int
) -> tuple[Any, Any, Any]:
    """(text and image, image alone, neither): 1.1's three conditions for a first frame's latent (1, 4, 1, h, w)."""
    levels = {"motion_score": motion_score, "noise_augmentation": noise_augmentation}
    nothing = negative or unconditional(text)
    return _with(text, first=first, **levels), _with(nothing, first=first, **levels), _with(nothing, **levels)


def _with(conditioning: Any, **settings: Any) -> Any:
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

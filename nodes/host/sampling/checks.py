"""What is wrong with the value of a node's input, in one sentence, before any work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ....fusionframes_core.settings import size_multiple
from ..model.hosted_models import InterpolationModel, KeyframeModel, VideoModel
from ..model.vae import VideoAutoencoder


def name_of(model: Any) -> str:
    """What a MODEL or VAE is, as a person would call it."""
    kind = type(getattr(model, "model", None))
    names: dict[type, str] = {
        KeyframeModel: "a FusionFrames keyframe model",
        InterpolationModel: "a FusionFrames interpolation model",
    }
    return names.get(kind, f"a model of another kind ({kind.__name__})")


def stage_of(model: Any) -> str:
    """What sampling with a MODEL makes, in the words of the library's errors."""
    return "interpolation" if isinstance(model.model, InterpolationModel) else "keyframes"


def require_keyframe_model(model: Any) -> None:
    """Raise ValueError unless a MODEL makes keyframes."""
    if not isinstance(model.model, KeyframeModel):
        raise ValueError(
            "model must be a keyframe model of FusionFrames Load Model (its first output) or Load U-Net; got "
            f"{name_of(model)}"
        )


def require_image_model(model: Any) -> None:
    """Raise ValueError unless a MODEL makes keyframes that continue a first frame (1.1)."""
    require_keyframe_model(model)
    config = model.model.config
    if not config.keyframe.image_input:
        raise ValueError(
            f"model must be one that continues a first frame (KandinskyVideo 1.1); {config.name} does not: use "
            "FusionFrames Sample Keyframes"
        )


def require_text_model(model: Any) -> None:
    """Raise ValueError unless a MODEL makes keyframes from a prompt alone."""
    require_keyframe_model(model)
    config = model.model.config
    if config.keyframe.image_input:
        raise ValueError(
            f"{config.name} continues a first frame: use FusionFrames Image to Video, with an image of yours or one "
            "from FusionFrames Draw First Frame"
        )


def require_interpolation_model(model: Any) -> None:
    """Raise ValueError unless a MODEL interpolates."""
    if not isinstance(model.model, InterpolationModel):
        raise ValueError(
            "model must be an interpolation model of FusionFrames Load Model (its second output) or Load U-Net; got "
            f"{name_of(model)}"
        )


def require_our_model(model: Any) -> None:
    """Raise ValueError unless a MODEL is of FusionFrames."""
    if not isinstance(model.model, VideoModel):
        raise ValueError(f"model must come from FusionFrames Load Model or Load U-Net; got {name_of(model)}")


def require_our_vae(vae: Any) -> None:
    """Raise ValueError unless a VAE is a MoVQ of ours."""
    inside = getattr(vae, "first_stage_model", None)
    if not isinstance(inside, VideoAutoencoder):
        raise ValueError(
            "vae must be the MoVQ of FusionFrames Load Model (its fourth output) or Load VAE; got another VAE "
            f"({type(inside).__name__})"
        )


def require_latents(latents: Tensor, frames: int = 1) -> None:
    """Raise ValueError unless latents are [B, 4, T, h, w] with at least `frames` frames."""
    shape = tuple(latents.shape)
    if latents.ndim != 5 or shape[1] != 4:
        raise ValueError(
            f"latents must be those of a FusionFrames video, [B, 4, T, h, w]; got {list(shape)}. Frames made by other "
            "models go through FusionFrames Encode Video"
        )
    if shape[2] < frames:
        raise ValueError(
            f"latents must have at least {frames} frames to interpolate between; got {shape[2]}. Raise num_keyframes, "
            "or encode two images"
        )


def require_size(model: Any, latents: Tensor) -> None:
    """Raise ValueError unless a U-Net can halve latents (B, 4, T, h, w) as often as it does."""
    config = model.model.config
    factor = model.model.pixels_per_latent
    multiple = size_multiple(config)
    height, width = (side * factor for side in latents.shape[-2:])
    if height % multiple or width % multiple:
        raise ValueError(
            f"width and height must be multiples of {multiple} pixels for {config.name}; these latents stand for "
            f"{width}×{height}"
        )


def require_schedule(positive: Any, latents: Tensor) -> None:
    """Raise ValueError for a Prompt Schedule of another number of keyframes."""
    _require_masks((options.get("mask") for _, options in positive), latents.shape[2])


def require_frames(conds: Mapping[str, Iterable[Mapping[str, Any]]], latents: Tensor) -> None:
    """The same for the conditions of a guider."""
    _require_masks((entry.get("mask") for entries in conds.values() for entry in entries), latents.shape[2])


def require_finite(sigmas: Tensor) -> None:
    """Raise ValueError for sigmas that a scheduler could not make."""
    if not bool(sigmas.isfinite().all()):
        steps = max(len(sigmas) - 1, 0)
        raise ValueError(f"this scheduler cannot make {steps} step(s): take more steps or another scheduler")


def require_rates(**given: float) -> None:
    """Raise ValueError unless frame rates are finite and not negative; ComfyUI lets NaN pass."""
    for name, value in given.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be 0 or a finite number above it; got {value}")


def _require_masks(masks: Iterable[Tensor | None], frames: int) -> None:
    for mask in masks:
        if mask is not None and mask.ndim == 4 and mask.shape[1] != frames:
            raise ValueError(
                f"num_keyframes must be the Prompt Schedule's, which is {mask.shape[1]}; got {frames}. Set both to "
                "the same number"
            )

"""KandinskyVideo 1.1: the first frame that keyframes continue, drawn or given, and sampling with it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ....fusionframes_core.image_to_video import STILL_SCALE
from ....fusionframes_core.media.frames import fit_image
from ....fusionframes_core.sampling.first_frame import FirstFrame, augment_with_noise
from ....fusionframes_core.sampling.noise import AUGMENTATION_STAGE, stage_noise
from . import checks
from .conditionings import ConditioningPair, FirstFrameConditionings, still_conditionings
from .model_values import VideoShape
from .sampling_options import HostSamplingOptions, ImageSamplingOptions
from .sampling_plan import plan, plan_from_image
from .stages import STILLS, decode, empty_latents


def draw_first_frame(
    model: Any, vae: Any, conditionings: ConditioningPair, size: tuple[int, int], options: HostSamplingOptions
) -> Tensor:
    """IMAGE (1, H, W, 3) of a prompt, at twice the video's size (height, width), as 1.1 draws it."""
    height, width = (STILL_SCALE * side for side in size)
    samples = empty_latents(1, VideoShape(height, width, 1))
    checks.require_size(model, samples)
    still = plan(model, still_conditionings(conditionings), options).sample(samples)
    return decode(vae, still, False, STILLS)


def encode_first_frame(vae: Any, image: Tensor, size: tuple[int, int], fit: str) -> Tensor:
    """The latent (1, 4, 1, h, w) of the first of an IMAGE's pictures, brought to (height, width) by a fit's name."""
    pixels = fit_image(image[:1, ..., :4].movedim(-1, 1).float() * 2 - 1, size, fit)
    return vae.encode((pixels.movedim(1, -1) + 1) / 2).float()


def augment_first_frame(
    model: Any, latent: Tensor, motion_score: float, noise_augmentation: int, seed: int
) -> FirstFrame:
    """What keyframes continue: the latent (1, 4, 1, h, w) with as much noise on it as core would add."""
    config = model.model.config
    noise = stage_noise(seed, AUGMENTATION_STAGE, 1, latent.device)
    noisy = augment_with_noise(latent, noise_augmentation, config.image_noise, config.keyframe_schedule, noise)
    return FirstFrame(noisy, motion_score, noise_augmentation)


def sample_from_image(
    model: Any,
    conditionings: FirstFrameConditionings,
    samples: Tensor,
    options: ImageSamplingOptions,
) -> Tensor:
    """Keyframes (1, 4, T, h, w) in the place of empty latents, continuing a first frame.

    Raises ValueError for what does not fit, before the first step.
    """
    checks.require_size(model, samples)
    checks.require_schedule(conditionings.positive, samples)
    return plan_from_image(model, conditionings, options).sample(samples)

"""KandinskyVideo 1.1: the first frame that keyframes continue, drawn or given, and sampling with it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ....fusionframes_core.image_to_video import IMAGE_STAGE, STILL_SCALE
from ....fusionframes_core.media.frames import fit_image
from ....fusionframes_core.sampling.first_frame import first_image
from ....fusionframes_core.sampling.noise import stage_noise
from . import checks, conditionings
from . import guiders as sampling
from . import stages as work


def draw_first_frame(model: Any, text: Any, vae: Any, negative: Any, size: tuple[int, int], **how: Any) -> Tensor:
    """IMAGE (1, H, W, 3) of a prompt, at twice the video's size (height, width), as 1.1 draws it.

    `how`: seed, steps, cfg, sampler, scheduler.
    """
    height, width = (STILL_SCALE * side for side in size)
    samples = work.empty_latents(1, 1, height, width)
    checks.require_size(model, samples)
    positive, other = conditionings.prepare_still(text, negative)
    still = sampling.run(work.plan(model, positive, other, **how), {"samples": samples})
    return work.decode(vae, still, temporal=False, chunk=1, overlap=0)


def encode_first_frame(model: Any, vae: Any, image: Tensor, size: tuple[int, int], seed: int, level: int) -> Tensor:
    """The latent (1, 4, 1, h, w) of the first IMAGE, fitted to (height, width), with `level` steps of noise."""
    pixels = fit_image(image[:1, ..., :3].movedim(-1, 1).float() * 2 - 1, size)
    latent = vae.encode((pixels.movedim(1, -1) + 1) / 2).float()
    config = model.model.config
    noise = stage_noise(seed, IMAGE_STAGE, 1, latent.device)
    return first_image(latent, level, config.image_noise, config.keyframe_schedule, noise)


def sample_from_image(
    model: Any, conditions: tuple[Any, Any, Any], samples: Tensor, seed: int, cfg: float, cfg_image: float, **how: Any
) -> Tensor:
    """Keyframes (1, 4, T, h, w) by the three conditions of `conditionings.prepare_first_frame`.

    `how`: steps, sampler, scheduler.
    """
    text, image, nothing = conditions
    checks.require_size(model, samples)
    checks.require_schedule(text, samples)
    guide = sampling.by_text_and_image(text, image, nothing, cfg, cfg_image)
    plan = sampling.plan(model, guide, sampling.RecordNoise(seed), **how)
    return sampling.run(plan, {"samples": samples})

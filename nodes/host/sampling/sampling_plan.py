"""A whole sampling in ComfyUI's terms: noise, guider, sampler and sigmas, and its run with progress and previews."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import comfy.model_management as management
import comfy.samplers
import comfy.utils
from torch import Tensor

from ....fusionframes_core.errors import require_finite
from ....fusionframes_core.sampling.guidance import TextImageGuidance
from . import checks
from .comfy_samplers import make_sampler
from .conditionings import ConditioningPair, FirstFrameConditionings
from .guiders import first_frame_guider, text_guider
from .sampling_options import HostSamplingOptions, ImageSamplingOptions
from .seeded_noise import SeededNoise, noise_of
from .sigmas import model_sampling, official_sigmas


@dataclass(frozen=True)
class Plan:
    """Everything that ComfyUI's SamplerCustomAdvanced takes, for one of our models."""

    noise: SeededNoise
    guider: Any
    sampler: Any
    sigmas: Tensor

    def sample(self, samples: Tensor, mask: Tensor | None = None) -> Tensor:
        """Sample in the place of latents (B, 4, T, h, w), on ComfyUI's intermediate device.

        `mask` is a LATENT's noise_mask. With progress, a preview of every frame and Cancel in every step.
        """
        total = len(self.sigmas) - 1
        bar = comfy.utils.ProgressBar(total)
        latent_format = self.guider.model_patcher.model.latent_format

        def report(step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
            management.throw_exception_if_processing_interrupted()
            bar.update_absolute(step + 1, total, ("JPEG", latent_format.sheet(x0), 512))

        sampled = self.guider.sample(
            self.noise.generate_noise({"samples": samples}),
            samples,
            self.sampler,
            self.sigmas,
            denoise_mask=mask,
            callback=report,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=self.noise.seed,
        )
        patcher = self.guider.model_patcher
        require_finite(checks.stage_of(patcher), sampled, patcher.model.get_dtype_inference())
        return sampled.to(management.intermediate_device())


def plan(model: Any, conditionings: ConditioningPair, options: HostSamplingOptions) -> Plan:
    """Keyframes, a still or interpolation, by classifier-free guidance."""
    noise = noise_of(model, options.seed, conditionings.positive)
    guide = partial(text_guider, conditionings=conditionings, guidance=options.guidance)
    return _plan(model, guide, noise, options)


def plan_from_image(model: Any, conditionings: FirstFrameConditionings, options: ImageSamplingOptions) -> Plan:
    """Keyframes that continue a first frame, by 1.1's three-way guidance."""
    guidance = TextImageGuidance(options.guidance, options.image_guidance)
    guide = partial(first_frame_guider, conditionings=conditionings, guidance=guidance)
    return _plan(model, guide, SeededNoise(options.seed), options)


def _plan(model: Any, guide: Callable[[Any], Any], noise: SeededNoise, options: HostSamplingOptions) -> Plan:
    """As core samples where nothing else is asked for; `guide` makes the guider of a MODEL."""
    schedule = model.model.schedule
    if options.scheduler is None:
        if schedule.respaced:  # 1.0: the schedule is another one for every number of steps
            model = model.clone()
            model.add_object_patch("model_sampling", model_sampling(schedule, options.whole_steps))
        sigmas = official_sigmas(schedule, options.whole_steps)
    else:
        noise_levels = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(noise_levels, options.scheduler, options.whole_steps)
    sampler = make_sampler(options.sampler or schedule.sampler, noise)
    return Plan(noise, guide(model), sampler, sigmas[-(options.steps + 1) :] if options.denoise < 1 else sigmas)

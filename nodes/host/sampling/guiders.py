"""Sampling with our MODELs: guidance, samplers, sigmas and noise of record, and what runs inside every sampler.

A seed means the same here as in fusionframes_core: each video of a batch draws from its own generator on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.model_management as management
import comfy.samplers
import comfy.utils
import torch
from torch import Tensor

from ....fusionframes_core.image_to_video import STILL_STAGE
from ....fusionframes_core.models.unet.interpolation_unet import merge_groups
from ....fusionframes_core.sampling.guidance import TextImageGuidance
from ....fusionframes_core.sampling.noise import stage_noise
from ....fusionframes_core.sampling.sampler import MULTISTEP, SAMPLERS, Step
from ..comfy.memory import warn_of_sampling
from ..model.hosted_models import SETTINGS, InterpolationModel, interpolation_stage
from .sigmas import ZERO_SNR_SIGMA, model_sampling, sigmas_of_record

# In a list of samplers or schedulers: what the model's config says, by its name and by the one that old workflows hold.
DEFAULT, OLD_DEFAULT = "default", "record"
KEYFRAMES, INTERPOLATION = "keyframes", "interpolation"


def sampler_names() -> list[str]:
    """'default', every sampler of this ComfyUI (core's own replace those of the same name), and default's old name."""
    return [DEFAULT, *comfy.samplers.SAMPLER_NAMES, OLD_DEFAULT]


def scheduler_names() -> list[str]:
    """'default', every scheduler of this ComfyUI, and default's old name."""
    return [DEFAULT, *comfy.samplers.SCHEDULER_NAMES, OLD_DEFAULT]


def limit_prediction(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
    """A PREDICT_NOISE wrapper: thresholding of the guided clean latents, whatever the guider."""
    x0 = executor(*args, **kwargs)
    return executor.class_obj.inner_model.limit(x0)


def before_sampling(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Any:
    """An OUTER_SAMPLE wrapper: a warning if it cannot fit, and contexts of one length."""
    warn_of_sampling(executor.class_obj.model_patcher, noise)
    align_contexts(executor.class_obj.conds)
    return executor(noise, *args, **kwargs)


def align_contexts(conds: dict[str, Any]) -> None:
    """Give every context the length of the longest, padded with masked zeros.

    As in core (and upstream), where the unconditional context has as many tokens as the prompt: the U-Net's mean over
    tokens sees the padding.
    """
    every = [entry for entries in conds.values() for entry in entries if "cross_attn" in entry]
    longest = max((entry["cross_attn"].shape[1] for entry in every), default=0)
    for entry in every:
        context = entry["cross_attn"]
        mask = entry.get("attention_mask")
        mask = torch.ones(context.shape[:2]) if mask is None else mask.float()
        entry["cross_attn"] = _pad(context, (0, 0, 0, longest - context.shape[1]))
        entry["attention_mask"] = _pad(mask, (0, longest - mask.shape[1]))


def _pad(value: Tensor, amount: tuple[int, ...]) -> Tensor:
    return torch.nn.functional.pad(value, amount)


@dataclass(frozen=True)
class RecordNoise:
    """ComfyUI's NOISE with core's meaning of a seed, for the latents of one kind of model."""

    seed: int
    stage: str = KEYFRAMES  # core's name of the stage; INTERPOLATION: which one, the number of frames says
    perturbed: bool = False  # interpolation: the given frames drew from the same generators first

    def generate_noise(self, latent: dict[str, Any]) -> Tensor:
        """Noise like the latents [B, 4, T, h, w]; for interpolation only its missing frames are noise."""
        return self.draws(latent["samples"])()

    def draws(self, video: Tensor) -> Callable[[], Tensor]:
        """A function whose calls give one draw after the other, each like `video`."""
        if self.stage != INTERPOLATION:
            draw = stage_noise(self.seed, self.stage, video.shape[0], video.device)
            return lambda: draw(tuple(video.shape))
        draw = stage_noise(self.seed, interpolation_stage(video), video.shape[0], video.device)
        keyframes = torch.zeros_like(video[:, :, ::4])
        if self.perturbed:
            draw(tuple(keyframes.shape))
        batch, channels, count, *size = keyframes.shape
        return lambda: merge_groups(keyframes, draw((batch, 3 * channels, count - 1, *size)))


def make_sampler(name: str, noise: RecordNoise) -> Any:
    """ComfyUI's SAMPLER of a name: core's samplers as they are in core, all others ComfyUI's."""
    if name in SAMPLERS:
        return comfy.samplers.KSAMPLER(_CoreSampler(name, noise))
    return comfy.samplers.sampler_object(name)


@dataclass(frozen=True)
class _CoreSampler:
    """A sampler of fusionframes_core.sampling.sampler in ComfyUI's variables (latents x / α, sigma = σ / α)."""

    name: str
    noise: RecordNoise

    @torch.no_grad()
    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any] | None = None,
        callback: Any = None,
        disable: bool | None = None,
    ) -> Tensor:
        step_noise = _StepNoise(self.noise, x)
        previous: Step | None = None
        for index in range(len(sigmas) - 1):
            x0 = model(x, sigmas[index] * x.new_ones(x.shape[0]), **(extra_args or {}))
            alpha, sigma = _level(float(sigmas[index]))
            alpha_next, sigma_next = _level(float(sigmas[index + 1]))
            if callback is not None:
                callback({"x": x, "i": index, "sigma": sigmas[index], "sigma_hat": sigmas[index], "denoised": x0})
            x = x / math.hypot(1.0, float(sigmas[index]))
            step = Step(x, x0, alpha, sigma, alpha_next, sigma_next, previous)
            x = SAMPLERS[self.name](step, step_noise) / alpha_next
            # What nobody asks for is not held while the network works: no sampler asks for the x of another step.
            previous = replace(step, x=x0, previous=None) if self.name in MULTISTEP else None
            del step, x0
        return x


class _StepNoise:
    """The noise of later steps, for samplers that draw any: what core's source gives after the first draw."""

    def __init__(self, noise: RecordNoise, x: Tensor) -> None:
        self._start = partial(noise.draws, x)
        self._draw: Callable[[], Tensor] | None = None

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        if self._draw is None:
            self._draw = self._start()
            self._draw()
        return self._draw()


def _level(sigma: float) -> tuple[float, float]:
    """(α, σ) of a ComfyUI sigma."""
    if sigma >= ZERO_SNR_SIGMA:
        return 0.0, 1.0
    alpha = 1 / math.hypot(1.0, sigma)
    return alpha, sigma * alpha


@dataclass(frozen=True)
class Plan:
    """Everything that ComfyUI's SamplerCustomAdvanced takes, for one of our models."""

    noise: RecordNoise
    guider: Any
    sampler: Any
    sigmas: Tensor


class ThreeWayGuider(comfy.samplers.CFGGuider):
    """1.1's guidance by text and first frame: what DualCFGGuider does, with core's arithmetic."""

    def predict_noise(self, x: Tensor, timestep: Tensor, model_options: Any = None, seed: int | None = None) -> Tensor:
        """The guided clean latents."""
        conds = [self.conds[name] for name in ("positive", "middle", "negative")]
        found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options or {})
        return self.cfg.combine(found)


Guide = Callable[[Any], Any]


def by_text(positive: Any, negative: Any, cfg: float) -> Guide:
    """A function from a MODEL to ComfyUI's plain guider."""

    def guide(model: Any) -> Any:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return guider

    return guide


def by_text_and_image(text: Any, image: Any, nothing: Any, cfg: float, cfg_image: float) -> Guide:
    """A function from a MODEL to the three-way guider. The weights are w_T and w_I of 1.1, without + 1."""

    def guide(model: Any) -> Any:
        guider = ThreeWayGuider(model)
        guider.inner_set_conds({"positive": text, "middle": image, "negative": nothing})
        guider.set_cfg(TextImageGuidance(cfg, cfg_image))
        return guider

    return guide


def plan(
    model: Any, guide: Guide, noise: RecordNoise, steps: int, sampler: str = DEFAULT, scheduler: str = DEFAULT
) -> Plan:
    """A sampling as core does it where 'default' is asked for."""
    schedule = model.model.schedule
    if scheduler in (DEFAULT, OLD_DEFAULT):
        if schedule.respaced:
            model = model.clone()
            model.add_object_patch("model_sampling", model_sampling(schedule, steps))
        sigmas = sigmas_of_record(schedule, steps)
    else:
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    name = schedule.sampler if sampler in (DEFAULT, OLD_DEFAULT) else sampler
    return Plan(noise, guide(model), make_sampler(name, noise), sigmas)


def run(what: Plan, latent: dict[str, Any]) -> Tensor:
    """Sample; progress, a preview of every frame and Cancel in every step. Latents on ComfyUI's intermediate device."""
    samples = latent["samples"]
    patcher = what.guider.model_patcher
    total = len(what.sigmas) - 1
    bar = comfy.utils.ProgressBar(total)

    def report(step: int, x0: Tensor, x: Tensor, total_steps: int) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(step + 1, total, ("JPEG", patcher.model.latent_format.sheet(x0), 512))

    out = what.guider.sample(
        what.noise.generate_noise(latent),
        samples,
        what.sampler,
        what.sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=report,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=what.noise.seed,
    )
    return out.to(management.intermediate_device())


def record_noise(model: Any, seed: int, positive: Any) -> RecordNoise:
    """The noise of record for a model of ours and its conditioning."""
    perturbed = any((entry[1].get(SETTINGS) or {}).get("perturbation", 0) for entry in positive)
    if isinstance(model.model, InterpolationModel):
        return RecordNoise(seed, INTERPOLATION, perturbed)
    still = any((entry[1].get(SETTINGS) or {}).get("still") for entry in positive)
    return RecordNoise(seed, STILL_STAGE if still else KEYFRAMES)

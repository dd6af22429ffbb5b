"""Core's noise schedules as ComfyUI's model_sampling objects and sigmas.

ComfyUI's latents are x / α with sigma = σ / α. A last step without any signal (zero terminal SNR) has an infinite sigma
there; like ComfyUI's own such models ours start at the sigma of ᾱ = 4.9e-8.
"""

from __future__ import annotations

from typing import Any

import comfy.model_sampling as comfy_sampling
import torch
from torch import Tensor

from ....fusionframes_core.config import ScheduleConfig
from ....fusionframes_core.sampling.schedule import NoiseSchedule

LEAST_ALPHA_CUMPROD = 4.8973451890853435e-08  # ComfyUI's rescale_zero_terminal_snr_sigmas
ZERO_SNR_SIGMA = (1 / LEAST_ALPHA_CUMPROD - 1) ** 0.5 * (1 - 1e-5)  # sigmas from here on stand for "no signal at all"


class _Velocity(comfy_sampling.V_PREDICTION):
    """v-prediction, exact where there is no signal: x0 is −v there, whatever x is."""

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        x0 = super().calculate_denoised(sigma, model_output, model_input)
        none = comfy_sampling.reshape_sigma(sigma, model_output.ndim) >= ZERO_SNR_SIGMA
        return torch.where(none, -model_output, x0)


_KINDS = {"epsilon": comfy_sampling.EPS, "v": _Velocity, "x0": comfy_sampling.X0}


class _Schedule(comfy_sampling.ModelSamplingDiscrete):
    """A NoiseSchedule of core; `steps` rebuilds a respaced one (1.0) with as many times."""

    def __init__(self, config: ScheduleConfig, steps: int | None) -> None:
        torch.nn.Module.__init__(self)  # not ModelSamplingDiscrete's own, which makes a schedule from betas
        schedule = NoiseSchedule.from_config(config, steps if config.respaced else None)
        kept = schedule.alphas_cumprod.clamp(min=LEAST_ALPHA_CUMPROD)
        self.num_timesteps, self.time_scale = schedule.num_steps, schedule.time_scale
        self.linear_start, self.linear_end, self.zsnr = 0.0, 0.0, config.zero_terminal_snr
        self.sigma_data = 1.0
        self.set_sigmas(((1 - kept) / kept).sqrt())

    def timestep(self, sigma: Tensor) -> Tensor:
        """The network's time at a sigma."""
        return super().timestep(sigma) * self.time_scale

    def sigma(self, timestep: Tensor) -> Tensor:
        """The sigma at a network's time."""
        return super().sigma(timestep / self.time_scale)

    def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool = False) -> Tensor:
        """Empty frames begin as plain noise, as in core, also where a schedule begins below its highest level."""
        filled = latent_image.flatten(3).any(-1).any(1) if latent_image.ndim == 5 else latent_image.any()[None, None]
        if max_denoise or bool(filled.all()):
            return super().noise_scaling(sigma, noise, latent_image, max_denoise)
        plain = super().noise_scaling(sigma, noise, latent_image, True)
        if not bool(filled.any()):
            return plain
        return torch.where(filled[:, None, :, None, None], super().noise_scaling(sigma, noise, latent_image), plain)


def model_sampling(config: ScheduleConfig, steps: int | None = None) -> Any:
    """The model_sampling object of a schedule; with `steps`, of a respaced one (1.0) rebuilt for as many."""
    kind = _KINDS[config.prediction]
    return type("ModelSampling", (_Schedule, kind), {})(config, steps)


def official_sigmas(config: ScheduleConfig, steps: int) -> Tensor:
    """The sigmas (steps + 1,) of the times that core's samplers visit, and 0. Raises ValueError as core does."""
    schedule = NoiseSchedule.from_config(config, steps)
    sigmas = model_sampling(config, steps).sigmas[list(schedule.times)]
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def sampling_settings(config: ScheduleConfig) -> dict[str, Any]:
    """What the stock ModelSamplingDiscrete node rebuilds a schedule from."""
    return {"beta_schedule": config.schedule, "timesteps": config.train_steps, "zsnr": config.zero_terminal_snr}

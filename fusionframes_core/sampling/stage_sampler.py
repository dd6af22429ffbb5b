"""One stage's denoising around a guided network: with its schedule, sampler, noise, limits and callback."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..config import ScheduleConfig
from .callbacks import Callback, shown_as
from .guidance import GuidedModel
from .noise import NoiseSource
from .options import SamplingOptions
from .sampler import SAMPLERS, denoise
from .schedule import NoiseSchedule
from .thresholding import threshold_x0


@dataclass(frozen=True)
class StageSampler:
    """Samples one stage: the U-Net's noise schedule, what is asked for, where noise comes from, who is told."""

    schedule: ScheduleConfig
    options: SamplingOptions
    noise: NoiseSource
    callback: Callback | None = None

    def sample(self, predict: GuidedModel, shape: tuple[int, ...], base: Tensor | float = 0.0) -> Tensor:
        """Denoise fresh noise of `shape` (B, C, T, h, w) to clean latents, float32.

        What is diffused is the latents' difference from `base`; limits and the callback see the latents themselves.
        Raises ValueError for a number of steps that the schedule does not have, and what the callback raises.
        """
        config = self.schedule

        def limit(x0: Tensor) -> Tensor:
            return threshold_x0(x0 + base, config.threshold_quantile) - base

        difference = denoise(
            predict,
            self.noise(shape),
            NoiseSchedule.from_config(config, self.options.steps),
            SAMPLERS[self.options.sampler or config.sampler],
            config.prediction,
            self.noise,
            limit,
            shown_as(self.callback, lambda x0: x0 + base),
        )
        return difference + base

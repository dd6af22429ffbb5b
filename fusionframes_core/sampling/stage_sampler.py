"""One stage's denoising around a guided network: with its schedule, sampler, noise, limits and callback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ScheduleConfig
from ..errors import named
from .callbacks import Callback, shown_as
from .guidance import GuidedModel
from .guides import HeldFrames
from .noise import NoiseSource
from .options import SamplingOptions
from .sampler import SAMPLERS, denoise
from .schedule import NoiseSchedule
from .thresholding import threshold_x0


@dataclass(frozen=True)
class Given:
    """What a sampling is given beside noise.

    `video` (B, C, T, h, w): latents that it begins with, under the noise that the options' `denoise` leaves; `held`:
    frames that are held in their places.
    """

    video: Tensor | None = None
    held: HeldFrames | None = None


@dataclass(frozen=True)
class StageSampler:
    """Samples one stage: the U-Net's noise schedule, what is asked for, where noise comes from, who is told."""

    schedule: ScheduleConfig
    options: SamplingOptions
    noise: NoiseSource
    callback: Callback | None = None

    def sample(
        self, predict: GuidedModel, shape: tuple[int, ...], base: Tensor | float = 0.0, given: Given | None = None
    ) -> Tensor:
        """Denoise fresh noise of `shape` (B, C, T, h, w) to clean latents, float32.

        What is diffused is the latents' difference from `base`; limits and the callback see the latents themselves.
        `given` is what there is beside noise. Raises ValueError for a number of steps that the schedule does not have,
        and what the callback raises.
        """
        config, options = self.schedule, self.options

        def limit(x0: Tensor) -> Tensor:
            return threshold_x0(x0 + base, config.threshold_quantile) - base

        schedule = NoiseSchedule.from_config(config, options.whole_steps).last(options.steps)
        run = _Run(given or Given(), schedule, self.noise(shape), predict, limit)
        difference = denoise(
            run.predict,
            run.start(),
            schedule,
            named(SAMPLERS, "sampler", options.sampler or config.sampler),
            config.prediction,
            self.noise,
            run.limit,
            shown_as(self.callback, lambda x0: x0 + base),
        )
        return difference + base


class _Run:
    """A denoising whose held frames the network sees, and gives, as they are."""

    def __init__(
        self,
        given: Given,
        schedule: NoiseSchedule,
        noise: Tensor,
        predict: Callable[[Tensor, Tensor], Tensor],
        limit: Callable[[Tensor], Tensor],
    ) -> None:
        self.given, self.schedule, self.noise = given, schedule, noise
        self._predict, self._limit, self._step = predict, limit, -1

    def start(self) -> Tensor:
        """x of the first step: noise, on the given video and the held frames where there are any."""
        video, held = self.given.video, self.given.held
        x = self.noise if video is None else self._noised(video, 0)
        if held is None:
            return x
        mask = held.mask(0, len(self.schedule.times)).to(x.device)
        return torch.where(mask, self._noised(held.latents, 0), x)

    def predict(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided network's output, once for each step."""
        self._step += 1
        held = self.given.held
        if held is not None:
            x = torch.where(self._mask(held), self._noised(held.latents, self._step), x)
        return self._predict(x, t)

    def limit(self, x0: Tensor) -> Tensor:
        """The clean prediction in range, with the held frames in their places."""
        held, limited = self.given.held, self._limit(x0)
        return limited if held is None else torch.where(self._mask(held), held.latents.to(x0), limited)

    def _mask(self, held: HeldFrames) -> Tensor:
        return held.mask(self._step, len(self.schedule.times)).to(self.noise.device)

    def _noised(self, clean: Tensor, step: int) -> Tensor:
        alpha, sigma = self.schedule.level(self.schedule.times[step])
        return alpha * clean.to(self.noise) + sigma * self.noise

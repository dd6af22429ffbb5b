"""One stage's sampling: its schedule, its number of steps and its sampler around a guided network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ScheduleConfig
from ..models.casting import compute_dtype
from .guidance import Guidance, GuidedModel
from .noise import NoiseSource
from .sampler import SAMPLERS, Callback, Stopped, denoise
from .schedule import NoiseSchedule
from .thresholding import threshold_x0


@dataclass(frozen=True)
class Sampling:
    """How a stage is sampled: its schedule, the number of steps, the sampler (None: of record) and a callback."""

    schedule: ScheduleConfig
    steps: int
    sampler: str | None = None
    callback: Callback | None = None

    def run(
        self, predict: GuidedModel, shape: tuple[int, ...], noise: NoiseSource, base: Tensor | float = 0.0
    ) -> Tensor:
        """Denoise fresh noise of `shape` (B, C, T, h, w) to clean latents, float32.

        What is diffused is the latents' difference from `base`; limits and the callback see the latents themselves.
        """
        config = self.schedule
        schedule = NoiseSchedule.from_config(config, self.steps)
        sampler = SAMPLERS[self.sampler or config.sampler]

        def limit(x0: Tensor) -> Tensor:
            return threshold_x0(x0 + base, config.threshold_quantile) - base

        def report(step: int, total: int, x0: Tensor) -> Stopped | None:
            return self.callback(step, total, x0 + base) if self.callback is not None else None

        return denoise(predict, noise(shape), schedule, sampler, config.prediction, noise, limit, report) + base


def guided(
    unet: nn.Module, guidance: Guidance, conditions: Sequence[Any], extra: Sequence[Tensor] | None = None
) -> GuidedModel:
    """The guided network with as many of the conditions as the guidance needs, tensors in the network's dtype."""
    count = len(guidance.batches)
    dtype = compute_dtype(unet)
    cast = [_cast(condition, dtype) for condition in conditions[:count]]
    return GuidedModel(unet, guidance, cast, extra[:count] if extra else None)


def _cast(condition: Any, dtype: torch.dtype) -> Any:
    """Contexts and keyframes in `dtype`; masks, times and positions as they are."""
    names = [name for name in ("context", "keyframes") if hasattr(condition, name)]
    return replace(condition, **{name: getattr(condition, name).to(dtype) for name in names})

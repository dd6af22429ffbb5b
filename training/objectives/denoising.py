"""What the diffusion stages minimise, and how they draw noise levels and captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise, prediction_target

from ..engine.figures import Figures


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless a share is one."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1; got {value}")


@dataclass
class NoiseLevels:
    """Share `high_share` of the samples is drawn from the upper half of the times, where motion is decided."""

    high_share: float = 0.0

    def __post_init__(self) -> None:
        check_share("high_share", self.high_share)

    def draw(self, rng: np.random.Generator, count: int, num_steps: int) -> Tensor:
        """Times (count,) long, stratified so that every batch covers the range."""
        u = (rng.permutation(count) + rng.uniform(size=count)) / count
        low = np.where(rng.uniform(size=count) < self.high_share, num_steps // 2, 0)
        return torch.from_numpy((low + u * (num_steps - low)).astype(np.int64))


def denoising_loss(
    predict: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    prediction: str,
    least_weight: float = 1.0,
) -> tuple[Tensor, Figures]:
    """Mean squared error of `predict(x_t, t)` against the target of `prediction` (paper section 3; v: section 4.2).

    Below a `least_weight` of 1, samples are weighted by σ² but not below it: for v-prediction that is the error of x0,
    and attention goes to the noisy levels, where layout and motion are decided. Also tells the unweighted error of each
    sample in the lower and in the upper 20 % of the times.
    """
    noise = torch.randn_like(x0)
    alpha, sigma = schedule.alpha_sigma(t)
    output = predict(add_noise(x0, noise, alpha, sigma), t)
    error = (output - prediction_target(prediction, x0, noise, alpha, sigma)).square().flatten(1).mean(dim=1)
    parts = {"loss_low": t < 0.2 * schedule.num_steps, "loss_high": t >= 0.8 * schedule.num_steps}
    figures: Figures = {name: error.detach()[chosen] for name, chosen in parts.items()}
    return (error * sigma.square().clamp(min=least_weight)).mean(), figures

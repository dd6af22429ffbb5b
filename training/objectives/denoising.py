"""The diffusion stages' loss, how they draw noise levels, and the objective of U-Nets that read captions."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.config import ModelConfig
from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise, prediction_target

from ..data.sources import Drawn, Source
from ..engine.figures import Figures
from ..engine.objective import Batch


def check_share(name: str, value: float) -> None:
    """Raise ValueError unless a share is one."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1; got {value}")


@dataclass(frozen=True)
class NoiseLevels:
    """Shares of the samples drawn from a part of the times alone: the upper half, the lower half, the last time.

    In the upper half motion and place are decided, in the lower half outlines; at the last time sampling begins, and
    sampling of one step ends too.
    """

    high_share: float = 0.0
    low_share: float = 0.0
    last_share: float = 0.0

    def __post_init__(self) -> None:
        shares = dataclasses.asdict(self)
        for name, share in shares.items():
            check_share(name, share)
        if sum(shares.values()) > 1 + 1e-9:  # 0.1 + 0.2 + 0.7 is one
            given = " and ".join(f"{name} {share}" for name, share in shares.items() if share)
            raise ValueError(f"shares of the noise levels must be at most 1 together; got {given}")

    def draw(self, rng: np.random.Generator, count: int, num_steps: int) -> Tensor:
        """Times (count,) long, stratified so that every batch covers the range."""
        u = (rng.permutation(count) + rng.uniform(size=count)) / count
        half, kind = num_steps // 2, rng.uniform(size=count)
        first = np.where(kind < self.high_share, half, 0)
        end = np.where(kind >= 1 - self.low_share, half, num_steps)
        times = (first + u * (end - first)).astype(np.int64)
        is_last = (kind >= self.high_share) & (kind < self.high_share + self.last_share)
        return torch.from_numpy(np.where(is_last, num_steps - 1, times))


def denoising_loss(
    predict: Callable[[Tensor, Tensor], Tensor],
    x0: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    prediction: str,
    least_weight: float = 1.0,
    steady_weight: float = 0.0,
) -> tuple[Tensor, Figures]:
    """Mean squared error of `predict(x_t, t)` against the target of `prediction` (paper section 3; v: section 4.2).

    Below a `least_weight` of 1, samples are weighted by σ² but not below it: for v-prediction that is the error of x0,
    and attention goes to the noisy levels, where layout and motion are decided. `steady_weight` times `unsteadiness`
    of the error is added to its square before that. The figures are the unweighted squared errors of the samples in the
    lower and in the upper 20 % of the times and, with a `steady_weight`, the unsteadiness.
    """
    noise = torch.randn_like(x0)
    alpha, sigma = schedule.alpha_sigma(t)
    output = predict(add_noise(x0, noise, alpha, sigma), t)
    difference = output - prediction_target(prediction, x0, noise, alpha, sigma)
    error = difference.square().flatten(1).mean(dim=1)
    ranges = {"loss_low": t < 0.2 * schedule.num_steps, "loss_high": t >= 0.8 * schedule.num_steps}
    figures: Figures = {name: error.detach()[chosen] for name, chosen in ranges.items()}
    if steady_weight:
        wander = unsteadiness(difference)
        figures["unsteadiness"] = wander.detach()
        error = error + steady_weight * wander
    return (error * sigma.square().clamp(min=least_weight)).mean(), figures


def unsteadiness(error: Tensor) -> Tensor:
    """How far frames of errors (B, C, T, h, w) are off unlike each other, (B,): an error that a viewer sees flicker.

    The variance over a clip's frames of the error's mean over their places. An error that all frames share, as while
    nothing has decided the background yet, gives none; one of few levels in a whole frame's background, which is
    hardly a part of the squared error, all of it.
    """
    return error.mean(dim=(-2, -1)).var(dim=2, correction=0).mean(dim=1)


@dataclass(frozen=True)
class CaptionedObjective(ABC):
    """Denoising latents of `source` with their captions, by a U-Net of the keyframe kind."""

    config: ModelConfig
    source: Source
    batch_size: int
    levels: NoiseLevels
    least_weight: float
    steady_weight: float = 0.0

    def __post_init__(self) -> None:
        if not self.steady_weight >= 0:
            raise ValueError(f"steady_weight must be at least 0; got {self.steady_weight}")

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that keyframes are sampled with."""
        return NoiseSchedule.from_config(self.config.keyframe_schedule)

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Drawn:
        """Random clips, as many as a batch has."""

    @abstractmethod
    def positions(self, latents: Tensor) -> Tensor | None:
        """Times (B, T) of the frames of latents (B, 4, T, h, w), which the temporal layers see."""

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`latents` (B, 4, T, h, w), `t` (B,) and `text`, the captions' contexts."""
        drawn = self.draw(rng)
        t = self.levels.draw(rng, self.batch_size, self.schedule.num_steps)
        return {"latents": drawn.latents, "t": t, "text": drawn.text(rng)}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """`denoising_loss` of `model(x_t, t, KeyframeCondition)`."""
        latents, text = batch["latents"], batch["text"]
        condition = KeyframeCondition(text.context, text.mask, self.positions(latents))
        prediction = self.config.keyframe_schedule.prediction
        return denoising_loss(
            lambda x, t: model(x, t, condition),
            latents,
            batch["t"],
            self.schedule,
            prediction,
            self.least_weight,
            self.steady_weight,
        )

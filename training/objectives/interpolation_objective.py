"""Interpolation (paper, section 4.2): the frames between keyframes, from the keyframes, which may be perturbed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.config import ModelConfig
from fusionframes_core.errors import named
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise

from ..data.sources import Source
from ..engine.figures import Figures
from ..engine.objective import Batch
from ..moving_shapes.clips import WINDOW
from .denoising import NoiseLevels, check_share, denoising_loss
from .interpolation_architectures import ARCHITECTURES, Architecture


def draw_perturbation(rng: np.random.Generator, count: int, limit: int, share: float) -> Tensor:
    """Forward-diffusion steps (count,) on the keyframes: 0..limit for `share` of the clips (section 5: all), else 0."""
    levels = np.where(rng.random(count) < share, rng.integers(0, limit + 1, count), 0)
    return torch.from_numpy(levels)


def perturb(keyframes: Tensor, levels: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Diffuse keyframes (B, 4, K, h, w) forward by `levels` (B,) steps; 0 leaves them as they are."""
    alpha, sigma = schedule.alpha_sigma((levels - 1).clamp(min=0))
    noisy = add_noise(keyframes, torch.randn_like(keyframes), alpha, sigma)
    return torch.where((levels > 0).reshape(-1, 1, 1, 1, 1), noisy, keyframes)


@dataclass(frozen=True)
class KeyframeDropout:
    """How the given keyframes are made worse in training, each as a share of the clips.

    `perturbed_share` are diffused forward by 0 to the model's limit of steps; `unconditional_share` have no keyframes
    and no temporal layers (eq. 5, m = 0). Raises ValueError for what is no share.
    """

    perturbed_share: float = 0.4
    unconditional_share: float = 0.1

    def __post_init__(self) -> None:
        check_share("perturbed_share", self.perturbed_share)
        check_share("unconditional_share", self.unconditional_share)

    def draw(self, rng: np.random.Generator, count: int, max_perturbation: int) -> dict[str, Tensor]:
        """`perturbation` (count,) in steps and `conditional` (count,)."""
        perturbation = draw_perturbation(rng, count, max_perturbation, self.perturbed_share)
        return {
            "perturbation": perturbation,
            "conditional": torch.from_numpy(rng.random(count) >= self.unconditional_share),
        }


@dataclass(frozen=True)
class InterpolationObjective:
    """Denoising of the frames between keyframes, in windows of 4·G + 1 frames; the text is the null embedding.

    `base` is what the diffused frames are differences from ("zero", "blend"; None: as the configuration says). Without
    `dropout` every clip has its keyframes as they are. Raises ValueError for an unknown base.
    """

    config: ModelConfig
    source: Source
    batch_size: int
    levels: NoiseLevels
    least_weight: float = 0.1
    dropout: KeyframeDropout | None = None
    window: int = WINDOW
    base: str | None = None
    architecture: Architecture = ARCHITECTURES["groups"]

    def __post_init__(self) -> None:
        named(self.architecture.bases, "base", self.base_name)

    @property
    def base_name(self) -> str:
        """The base that is in force."""
        return self.base or self.config.interpolation.base

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that interpolation is sampled with."""
        return NoiseSchedule.from_config(self.config.interpolation_schedule)

    @cached_property
    def null(self) -> TextContext:
        """The null embedding, a batch of one."""
        return self.source.null_context()

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`video` (B, 4, T, h, w), `skip_frames` (B,), `t` (B,), and what `dropout` draws."""
        drawn = self.source.windows(rng, self.batch_size, self.window)
        t = self.levels.draw(rng, self.batch_size, self.schedule.num_steps)
        batch = {"video": drawn.latents, "skip_frames": drawn.skip_frames, "t": t}
        if self.dropout is None:
            return batch
        return batch | self.dropout.draw(rng, self.batch_size, self.config.max_perturbation)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """`denoising_loss` of `model(x_t, t, InterpolationCondition)` on what is diffused, less its base."""
        keyframes, missing = self.architecture.split(batch["video"])
        condition, base_of = self._condition(keyframes, batch), self.architecture.bases[self.base_name]
        return denoising_loss(
            lambda x, t: model(x, t, condition),
            missing - base_of(keyframes),
            batch["t"],
            self.schedule,
            self.config.interpolation_schedule.prediction,
            self.least_weight,
        )

    def _condition(self, keyframes: Tensor, batch: Batch) -> InterpolationCondition:
        count, device, skip = len(keyframes), keyframes.device, batch["skip_frames"]
        context = self.null.context.to(device).expand(count, -1, -1)
        mask = self.null.mask.to(device).expand(count, -1)
        if self.dropout is None:
            everywhere = torch.ones(count, dtype=torch.bool, device=device)
            return InterpolationCondition(keyframes, context, mask, skip, torch.zeros_like(skip).float(), everywhere)
        levels, conditional = batch["perturbation"], batch["conditional"]
        given = perturb(keyframes, levels, self.schedule) * conditional.reshape(-1, 1, 1, 1, 1)
        return InterpolationCondition(given, context, mask, skip, levels.float(), conditional)

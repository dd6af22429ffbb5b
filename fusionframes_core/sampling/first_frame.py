"""1.1: the first frame that keyframes continue, with noise on its latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ScheduleConfig
from .noise import NoiseSource
from .schedule import NoiseSchedule, add_noise

IMAGE_NOISES: dict[str, Callable[[Tensor], Tensor]] = {"gaussian": torch.Tensor.clone, "uniform": torch.special.ndtr}
"""What is added to the first image, from Gaussian noise."""


@dataclass(frozen=True)
class FirstImage:
    """1.1 keyframes continue an image: its latent (B, 4, 1, h, w) with `noise_augmentation` steps of noise on it."""

    latent: Tensor
    guidance: float
    motion_score: float
    noise_augmentation: int


def first_image(latent: Tensor, level: int, kind: str, schedule: ScheduleConfig, noise: NoiseSource) -> Tensor:
    """1.1: `level` of noise on the first image's latent (B, 4, 1, h, w).

    `kind` "uniform" in [0, 1) is what 1.1's code adds, "gaussian" what the model's training had.
    """
    if kind not in IMAGE_NOISES:
        raise ValueError(f"image_noise must be one of {', '.join(IMAGE_NOISES)}; got {kind!r}")
    alpha, sigma = NoiseSchedule.from_config(schedule).alpha_sigma(torch.tensor(level))
    return add_noise(latent, IMAGE_NOISES[kind](noise(tuple(latent.shape))), alpha, sigma)

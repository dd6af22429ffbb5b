"""1.1: the first frame that keyframes continue, and the noise on its latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import ScheduleConfig
from .noise import NoiseSource
from .schedule import NoiseSchedule, add_noise

IMAGE_NOISES: dict[str, Callable[[Tensor], Tensor]] = {"gaussian": torch.Tensor.clone, "uniform": torch.special.ndtr}
"""Gaussian noise to what is added to a first frame; the normal distribution function makes it uniform in [0, 1)."""


@dataclass(frozen=True)
class FirstFrame:
    """What keyframes continue, and how: the latent (B, 4, 1, h, w) with `noise_augmentation` steps of noise on it."""

    latent: Tensor
    motion_score: float
    noise_augmentation: int


def augment_with_noise(
    latent: Tensor, level: int, image_noise: str, schedule: ScheduleConfig, noise: NoiseSource
) -> Tensor:
    """`level` forward-diffusion steps of noise on a first frame's latent (B, 4, 1, h, w), 0 to 999.

    `image_noise` "uniform" in [0, 1) is what 1.1's code adds, "gaussian" what the model's training had. Raises
    ValueError for another name.
    """
    if image_noise not in IMAGE_NOISES:
        raise ValueError(f"image_noise must be one of {', '.join(IMAGE_NOISES)}; got {image_noise!r}")
    alpha, sigma = NoiseSchedule.from_config(schedule).alpha_sigma(torch.tensor(level))
    return add_noise(latent, IMAGE_NOISES[image_noise](noise(tuple(latent.shape))), alpha, sigma)

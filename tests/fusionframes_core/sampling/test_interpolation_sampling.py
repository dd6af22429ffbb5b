"""Noise on the frames that interpolation is given, for all videos alike or for each its own."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionframes_core.presets import TINY
from fusionframes_core.sampling.interpolation_sampling import perturb, perturb_each
from fusionframes_core.sampling.noise import NoiseSource, cpu_noise
from fusionframes_core.sampling.schedule import NoiseSchedule

SCHEDULE = TINY.interpolation_schedule
FRAMES = torch.rand(3, 4, 2, 3, 3, generator=torch.Generator().manual_seed(1))


def noise() -> NoiseSource:
    return cpu_noise(torch.Generator().manual_seed(0))


def test_each_video_gets_its_own_level() -> None:
    each = perturb_each(FRAMES, torch.tensor([0, 7, 250]), NoiseSchedule.from_config(SCHEDULE), noise())
    assert torch.equal(each[0], FRAMES[0])
    for index, level in ((1, 7), (2, 250)):
        assert torch.equal(each[index], perturb(FRAMES, level, SCHEDULE, noise())[index])


def test_no_level_draws_no_noise_but_levels_of_zero_do() -> None:
    """What is drawn next is then the same for every level of training, and for interpolation without perturbation."""
    draws: list[tuple[int, ...]] = []

    def counting(shape: tuple[int, ...]) -> Tensor:
        draws.append(shape)
        return torch.zeros(shape)

    assert perturb(FRAMES, 0, SCHEDULE, counting) is FRAMES
    assert draws == []
    zeros = torch.zeros(3, dtype=torch.long)
    assert torch.equal(perturb_each(FRAMES, zeros, NoiseSchedule.from_config(SCHEDULE), counting), FRAMES)
    assert draws == [(3, 4, 2, 3, 3)]

"""Where randomness comes from: Gaussian noise drawn on the CPU, so that a seed means the same on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

NoiseSource = Callable[[tuple[int, ...]], Tensor]


def cpu_noise(generator: torch.Generator, device: torch.device | str = "cpu") -> NoiseSource:
    """A source of Gaussian float32 noise drawn on the CPU, so that a seed means the same on every device."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32).to(device)

    return draw


def stage_noise(seed: int, stage: str, batch: int, device: torch.device | str) -> NoiseSource:
    """A source of Gaussian noise for one stage: one CPU generator for each video, from seed, seed + 1, ...

    Stages draw from generators of their own, so that the number of passes changes nothing before them, and a video
    of a batch is the video of its own seed.
    """
    generators = []
    for index in range(batch):
        digest = hashlib.sha256(f"{seed + index}/{stage}".encode()).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))

    def draw(shape: tuple[int, ...]) -> Tensor:
        rows = [torch.randn(shape[1:], generator=generator, dtype=torch.float32) for generator in generators]
        return torch.stack(rows).to(device)

    return draw

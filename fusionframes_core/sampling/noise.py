"""Where randomness comes from: Gaussian noise drawn on the CPU, so that a seed means the same on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

NoiseSource = Callable[[tuple[int, ...]], Tensor]
"""`noise(shape)`: Gaussian noise of a shape, the next draw each time."""

# The stages that draw. Their names are hashed into the seed: another name is other noise, so they never change.
KEYFRAME_STAGE = "keyframes"
STILL_STAGE = "image"  # 1.1: drawing a first frame
AUGMENTATION_STAGE = "noise on the image"  # 1.1; apart, so that it is the same for a drawn and for a given first frame


def interpolation_stage(num_frames: int) -> str:
    """The stage of an interpolation pass over `num_frames` frames.

    Their number tells the passes of one video apart, however they are called.
    """
    return f"interpolation of {num_frames}"


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

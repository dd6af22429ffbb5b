"""Random numbers whose bits a standard guarantees: from SHAKE-256 (FIPS 202) of a name, by whole-number arithmetic.

torch and numpy promise no bits from one version or processor to the next, so a recorded case that is to need no stored
weights and noise draws them here.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor

_SUMMANDS = 12  # whose variances add up to 1


def _words(name: str, count: int) -> np.ndarray:
    """`count` whole numbers from 0 to 65535."""
    return np.frombuffer(hashlib.shake_256(name.encode()).digest(2 * count), "<u2")


def uniform(name: str, shape: tuple[int, ...]) -> Tensor:
    """float32 in [−1, 1), each a multiple of 2⁻¹⁵."""
    words = _words(name, math.prod(shape)).astype(np.float32)
    return torch.from_numpy(words / 32768 - 1).reshape(shape)


def normal(name: str, shape: tuple[int, ...]) -> Tensor:
    """float32 of mean 0 and variance 1, within ±6: sums of twelve, near enough to a normal distribution."""
    sums = _words(name, _SUMMANDS * math.prod(shape)).reshape(-1, _SUMMANDS).sum(axis=1, dtype=np.int64)
    return torch.from_numpy((sums / 65536 - _SUMMANDS / 2).astype(np.float32)).reshape(shape)


def picture(name: str, size: tuple[int, int], channels: int, block: int = 8) -> np.ndarray:
    """uint8 (height, width, channels) in squares of one colour; `size` is (width, height)."""
    width, height = size
    coarse = (-(-height // block), -(-width // block), channels)
    colours = (_words(name, math.prod(coarse)) >> 8).astype(np.uint8).reshape(coarse)
    return colours.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]


def weight(name: str, shape: tuple[int, ...], gain: float) -> Tensor:
    """A parameter of its kind: a merge weight, a norm's scale, a bias, or a matrix of unit gain times `gain`."""
    drawn = uniform(name, shape)
    if drawn.numel() == 1:
        return torch.full(shape, 0.3)
    if len(shape) == 1:
        return drawn / 8 + (1 if name.endswith("weight") else 0)
    fan_in = math.prod(shape[1:])
    return drawn * (gain * math.sqrt(3 / fan_in))

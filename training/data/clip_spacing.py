"""How far frames are apart: a number of frames where all clips have one rate, else a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .items import SAME_RATE

STEP_RATE = 24.0
"""Steps of clips that differ in rate are 24ths of a second: keyframes 12 apart are half a second apart (section 5)."""


@dataclass(frozen=True)
class Spacing:
    """`frames_per_step`: for every clip how many of its frames a step is; 1 where all clips have one rate."""

    frames_per_step: np.ndarray

    @classmethod
    def of(cls, rates: Sequence[float]) -> Spacing:
        """For clips of these rates (FPS)."""
        if min(rates) >= max(rates) * SAME_RATE:
            return cls.by_number(len(rates))
        return cls(np.array(rates) / STEP_RATE)

    @classmethod
    def by_number(cls, clips: int) -> Spacing:
        """A step is a frame, whatever the rate."""
        return cls(np.ones(clips))

    def __str__(self) -> str:
        return "" if (self.frames_per_step == 1).all() else f" at {STEP_RATE:.0f} FPS"

    def places(self, clip: int, frames: int, step: int) -> np.ndarray:
        """The frames of a clip that are `step` steps apart, counted from the first."""
        return np.rint(np.arange(frames) * step * self.frames_per_step[clip]).astype(np.int64)

    def fits(self, lengths: np.ndarray, frames: int, step: int) -> np.ndarray:
        """Which clips of these lengths hold so many frames, none of them twice."""
        long_enough = np.rint((frames - 1) * step * self.frames_per_step) < lengths
        return long_enough & ((frames == 1) | (step * self.frames_per_step >= SAME_RATE))

    def possible_steps(self, lengths: np.ndarray, frames: int, most: int) -> np.ndarray:
        """The steps from 1 to `most` that any clip fits."""
        return np.array([step for step in range(1, most + 1) if self.fits(lengths, frames, step).any()], np.int64)

"""Text-to-image: single frames of videos with their captions, every noise level weighted alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..data.sources import Drawn
from .denoising import CaptionedObjective


@dataclass(frozen=True)
class ImageObjective(CaptionedObjective):
    """Denoising of single frames (B, 4, 1, h, w)."""

    least_weight: float = 1.0

    def draw(self, rng: np.random.Generator) -> Drawn:
        """Frames from anywhere in the clips."""
        return self.source.images(rng, self.batch_size)

    def positions(self, latents: Tensor) -> None:
        """A still image has no time."""

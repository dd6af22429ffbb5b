"""Latent previews of every frame, by a linear map from latents to colours that is fitted to the decoder once."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import comfy.latent_formats
import torch
from PIL import Image
from torch import Tensor

from ....fusionframes_core.media.latent_preview import LatentColours, preview_sheet

PREVIEW_SIZE = 512  # longest side in pixels


class VideoLatents(comfy.latent_formats.LatentFormat):
    """Latents [B, 4, T, h, w] as they are; `fit` gives their colours, asked for when the first preview is."""

    latent_channels = 4
    latent_dimensions = 3

    def __init__(self, fit: Callable[[], LatentColours]) -> None:
        self._fit = fit

    def process_in(self, latent: Tensor) -> Tensor:
        """Our latents need no scale: without a copy."""
        return latent

    def process_out(self, latent: Tensor) -> Tensor:
        """Without a copy here too."""
        return latent

    @cached_property
    def colours(self) -> LatentColours:
        """Colours in [0, 1]."""
        return self._fit()

    @property
    def latent_rgb_factors(self) -> list[list[float]]:
        """4×3, for stock previews, whose colours are in [−1, 1]."""
        return (self.colours.weight.T * 2).tolist()

    @property
    def latent_rgb_factors_bias(self) -> list[float]:
        """One for each colour, for the same previews."""
        return (self.colours.bias * 2 - 1).tolist()

    @staticmethod
    def latent_rgb_factors_reshape(x0: Tensor) -> Tensor:
        """(B, 4, T, h, w) to one sheet of all frames (B, 4, H, W), for stock previews."""
        count, height, width = x0.shape[2:]
        columns = math.ceil(math.sqrt(count * height / width))
        rows = math.ceil(count / columns)
        padded = torch.nn.functional.pad(x0, (0, 0, 0, 0, 0, rows * columns - count))
        return padded.unflatten(2, (rows, columns)).permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)

    def sheet(self, x0: Tensor) -> Image.Image:
        """Every frame of the first video of x0 (B, 4, T, h, w)."""
        return Image.fromarray(preview_sheet(x0[0], self.colours, PREVIEW_SIZE).numpy())

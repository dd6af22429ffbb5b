"""Cheap pictures of latents while they form: a linear map from latents to colours instead of a decoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..models.movq.movq import MoVQ

LINE_SCALE = 4  # from this magnification on, a black line of one pixel tells neighbouring frames apart


@dataclass(frozen=True)
class LatentColours:
    """The linear map rgb = weight · latent + bias, in [0, 1]: `weight` (3, C) and `bias` (3,), float32 on the CPU."""

    weight: Tensor
    bias: Tensor

    def frames(self, latents: Tensor) -> Tensor:
        """Latents (C, T, h, w) as colours (T, 3, h, w) in [0, 1], float32 on the CPU."""
        flat = torch.einsum("rc,cthw->trhw", self.weight, latents.detach().float().cpu())
        return (flat + self.bias[:, None, None]).clamp(0, 1)


PLAIN_COLOURS = LatentColours(torch.eye(3, 4) / 4, torch.full((3,), 0.5))
"""For latents of four channels whose autoencoder is not at hand: the first three as red, green and blue."""


@torch.no_grad()
def fit_latent_colours(movq: MoVQ, size: int = 64, images: int = 8, patch: int = 16) -> LatentColours:
    """Fit the map by least squares on `images` pictures of random colour patches that `movq` encodes.

    `size` and `patch` are pixels; both have to be multiples of the spatial factor. The patches come from a fixed seed.
    """
    weight = next(movq.parameters())
    colours = torch.rand(images, 3, size // patch, size // patch, generator=torch.Generator().manual_seed(0))
    pixels = functional.interpolate(colours, size=(size, size), mode="nearest")
    encoded = movq.encode((pixels * 2 - 1).unsqueeze(2).to(weight.device, weight.dtype))[:, :, 0].float().cpu()
    wanted = functional.adaptive_avg_pool2d(pixels, (encoded.shape[-2], encoded.shape[-1]))
    inputs = encoded.movedim(1, -1).flatten(0, -2)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, wanted.movedim(1, -1).flatten(0, -2), driver="gelsd").solution
    return LatentColours(weight=solution[:-1].T.contiguous(), bias=solution[-1].contiguous())


def preview_sheet(latents: Tensor, colours: LatentColours, longest: int = 512, most: int = 64) -> Tensor:
    """Every frame of one video's latents (C, T, h, w) on one sheet, row by row: uint8 (H, W, 3).

    The sheet is about as wide as high, scaled up by whole numbers while its longer side stays within `longest`
    pixels, with thin lines between frames; of more than `most` frames, `most` evenly spaced ones are shown.
    """
    count = latents.shape[1]
    if count > most:
        latents = latents[:, torch.linspace(0, count - 1, most).round().long().to(latents.device)]
    frames = colours.frames(latents)
    count, _, height, width = frames.shape
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    frames = (frames * 255).round().to(torch.uint8)  # before it is scaled up: a quarter of the memory
    frames = functional.pad(frames, (0, 0, 0, 0, 0, 0, 0, rows * columns - count))
    sheet = frames.reshape(rows, columns, 3, height, width).permute(0, 3, 1, 4, 2)
    sheet = sheet.reshape(rows * height, columns * width, 3)
    scale = max(1, longest // max(sheet.shape[:2]))
    sheet = sheet.repeat_interleave(scale, dim=0).repeat_interleave(scale, dim=1)
    if scale >= LINE_SCALE:
        sheet[height * scale - 1 :: height * scale] = 0
        sheet[:, width * scale - 1 :: width * scale] = 0
    return sheet

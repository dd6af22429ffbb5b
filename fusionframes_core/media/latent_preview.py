"""Cheap pictures of latents while they form: a linear map from latents to colours instead of a decoder."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import one_sentence
from ..files import atomic_path
from ..models.movq.movq import MoVQ

COLOURS_FILE = "latent_colours.json"  # of a model folder: fitted to the videos that the model was trained with
ENCODED_AT_ONCE = 16  # pictures
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


def fit_latent_colours(movq: MoVQ, size: int = 64, pictures: int = 32) -> LatentColours:
    """Fit the map to pictures of a shape before a plain or graded background, from a fixed seed.

    `size` is in pixels, a multiple of the spatial factor. For an autoencoder whose own videos are not at hand; with
    them `colours_of` does better.
    """
    return colours_of(movq, _drawn_pictures(pictures, size))


@torch.no_grad()
def colours_of(movq: MoVQ, pictures: Tensor) -> LatentColours:
    """Fit the map by least squares to pictures (N, 3, H, W) in [0, 1] that `movq` encodes."""
    weight = next(movq.parameters())
    pixels = (pictures * 2 - 1).unsqueeze(2).to(weight.device, weight.dtype)
    encoded = torch.cat([movq.encode(one)[:, :, 0] for one in pixels.split(ENCODED_AT_ONCE)]).float().cpu()
    wanted = functional.adaptive_avg_pool2d(pictures, (encoded.shape[-2], encoded.shape[-1]))
    inputs = encoded.movedim(1, -1).flatten(0, -2)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    solution = torch.linalg.lstsq(inputs, wanted.movedim(1, -1).flatten(0, -2), driver="gelsd").solution
    return LatentColours(weight=solution[:-1].T.contiguous(), bias=solution[-1].contiguous())


def write_colours(colours: LatentColours, folder: Path) -> None:
    """Write the map into a model folder."""
    rows = {"weight": colours.weight.tolist(), "bias": colours.bias.tolist()}
    rounded = json.loads(json.dumps(rows), parse_float=lambda text: round(float(text), 4))
    with atomic_path(folder / COLOURS_FILE) as partial:
        partial.write_text(json.dumps(rounded) + "\n", "utf-8")


def read_colours(folder: Path) -> LatentColours | None:
    """The map of a model folder, if it holds one. Raises CheckpointError for a file that is none."""
    path = folder / COLOURS_FILE
    if not path.is_file():
        return None
    with one_sentence(f"{path} holds no colours of latents"):
        stored = json.loads(path.read_text("utf-8"))
        colours = LatentColours(torch.tensor(stored["weight"]), torch.tensor(stored["bias"]))
        if colours.weight.ndim != 2 or len(colours.weight) != 3 or colours.bias.shape != (3,):
            raise ValueError(f"weight must be 3 rows and bias 3 numbers; got {tuple(colours.weight.shape)}")
    return colours


def _drawn_pictures(count: int, size: int) -> Tensor:
    """(count, 3, size, size) in [0, 1]: a disc or a square on a grey, or on a gradient of two colours."""
    generator = torch.Generator().manual_seed(0)
    axis = torch.linspace(-1, 1, size)
    down, across = torch.meshgrid(axis, axis, indexing="ij")
    drawn = []
    for index in range(count):
        angle, grey, x, y, radius = torch.rand(5, generator=generator)
        first, last, colour = torch.rand(3, 3, 1, 1, generator=generator)
        ramp = (0.5 + 0.5 * (across * (angle * math.tau).cos() + down * (angle * math.tau).sin())).clamp(0, 1)
        ground = torch.lerp(first, last, ramp) if index % 2 else grey.expand(3, size, size)
        apart = torch.stack([across - (1.4 * x - 0.7), down - (1.4 * y - 0.7)])
        distance = apart.norm(dim=0) if index % 4 < 2 else apart.abs().amax(0)
        cover = ((0.15 + 0.45 * radius - distance) * size / 2 + 0.5).clamp(0, 1)
        drawn.append(torch.lerp(ground, colour.expand_as(ground), cover))
    return torch.stack(drawn)


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

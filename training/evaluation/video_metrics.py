"""Metrics of videos in [-1, 1], confidence intervals, and tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB of each video (B, 3, T, H, W) in [-1, 1]; `output` is clipped to that."""
    options: dict[str, Any] = {"data_range": 2.0, "dim": tuple(range(1, target.ndim)), "reduction": "none"}
    return peak_signal_noise_ratio(output.float().clamp(-1, 1), target.float(), **options)


def ssim(output: Tensor, target: Tensor) -> Tensor:
    """Structural similarity (B,) of each video (B, 3, T, H, W) in [-1, 1], the mean over its frames."""
    pictures, wanted = (video.float().clamp(-1, 1).transpose(1, 2).flatten(0, 1) for video in (output, target))
    values = structural_similarity_index_measure(pictures, wanted, data_range=2.0, reduction="none")
    assert isinstance(values, Tensor)  # and not a pair, which other options give
    return values.reshape(len(target), -1).mean(dim=1)


def mse(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error (B,) of each video (B, 3, T, H, W) in [-1, 1], on a scale from 0 to 1 as in Table 3."""
    return (output.float().clamp(-1, 1) - target.float()).square().flatten(1).mean(dim=1) / 4


def flicker(output: Tensor, target: Tensor) -> Tensor:
    """Mean |Δoutput − Δtarget| (B,) between consecutive frames of (B, 3, T, H, W) in [-1, 1], in 8-bit levels.

    Δ is the difference of a frame and the one before it: a constant error does not count, a changing one does.
    """
    change = torch.diff(output.float().clamp(-1, 1), dim=2) - torch.diff(target.float(), dim=2)
    return change.abs().flatten(1).mean(dim=1) * 127.5


def wilson(right: int, total: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson's score interval)."""
    if total == 0:
        return 0.0, 1.0
    z, share = 1.96, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
    """A table on the standard output; the first column is text, the others are figures."""
    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row))
    console = Console()
    Console(width=None if console.is_terminal else 120).print(table)

"""Errors of reconstructed videos that the autoencoder and decoder stages minimise or report; all are in [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FOREGROUND_DISTANCE = 0.15  # from the background's colour, in the channel that differs most


def foreground_weight(pixels: Tensor, weight: float) -> Tensor:
    """1 on the background and `weight` on the shape, recognised by its distance from the frame's median colour."""
    median = pixels.flatten(-2).median(dim=-1).values[..., None, None]
    distance = (pixels - median).abs().amax(dim=1, keepdim=True)
    return 1.0 + (weight - 1.0) * (distance > FOREGROUND_DISTANCE).float()


@dataclass(frozen=True)
class ReconstructionLoss:
    """l1_weight · L1 + l2_weight · MSE, a shape's pixels weighted `shape_weight` times; divided by the mean weight."""

    shape_weight: float = 4.0
    l1_weight: float = 1.0
    l2_weight: float = 2.0

    def __call__(self, output: Tensor, pixels: Tensor) -> Tensor:
        """The loss, a scalar, of videos (B, 3, T, H, W)."""
        weights = foreground_weight(pixels, self.shape_weight)
        error = (output - pixels).abs()
        return ((self.l1_weight * error + self.l2_weight * error.square()) * weights).mean() / weights.mean()


def batch_psnr(output: Tensor, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio in dB, from the mean squared error over the whole batch."""
    error = (output.clamp(-1, 1) - pixels).square().mean()
    return float(10 * torch.log10(4.0 / error.detach()))


def flicker_loss(output: Tensor, pixels: Tensor) -> Tensor:
    """Mean absolute difference between the changes from frame to frame in the output and in the truth."""
    return (output.diff(dim=2) - pixels.diff(dim=2)).abs().mean()

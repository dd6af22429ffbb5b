"""The image autoencoder: single frames encoded, disturbed a little and decoded, with latents of a given spread."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.models.movq.movq import MoVQ

from ..data.sources import DrawPixels
from ..engine.figures import Figures
from ..engine.objective import Batch
from ..moving_shapes.scene_pixels import random_frames
from .held_out import device_of
from .reconstruction import ReconstructionLoss, batch_psnr

SPREAD_WEIGHT = 0.1


class NoisyAutoencoder(nn.Module):
    """Encode, disturb the latents a little (the decoder will see imperfect ones), decode."""

    def __init__(self, movq: MoVQ) -> None:
        super().__init__()
        self.movq = movq

    def forward(self, pixels: Tensor, noise: float) -> tuple[Tensor, Tensor]:
        """pixels (B, 3, 1, H, W) → reconstruction of the same shape, latents (B, 4, 1, h, w)."""
        latents = self.movq.encode(pixels)
        disturbed = latents + noise * torch.randn_like(latents)
        return self.movq.decode(disturbed, temporal=False), latents


@dataclass(frozen=True)
class AutoencoderObjective:
    """Reconstruction of frames by a NoisyAutoencoder; every latent channel is drawn towards mean 0 and `latent_std`."""

    draw: DrawPixels
    batch_size: int
    reconstruction: ReconstructionLoss
    latent_noise: float = 0.05
    latent_std: float = 0.5

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`pixels` (B, 3, 1, H, W)."""
        return {"pixels": self.draw(rng, self.batch_size)}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """Weighted error of the reconstruction, and how far the latents' moments are from the wanted ones."""
        output, latents = model(batch["pixels"], self.latent_noise)
        mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
        spread = mean.square().mean() + (std - self.latent_std).square().mean()
        figures: Figures = {"psnr": batch_psnr(output, batch["pixels"]), "spread": spread.item()}
        return self.reconstruction(output, batch["pixels"]) + SPREAD_WEIGHT * spread, figures


@dataclass(frozen=True)
class AutoencoderValidation:
    """PSNR and the latents' deviation on 128 frames of unseen combinations, without noise."""

    size: int
    at_once: int  # that go through the model: as many as a training step has

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures of a NoisyAutoencoder."""
        pixels, device = random_frames(np.random.default_rng(1), 128, self.size, held_out=True), device_of(model)
        found = [[part.cpu() for part in model(some.to(device), 0.0)] for some in pixels.split(self.at_once)]
        output, latents = (torch.cat(parts) for parts in zip(*found, strict=True))
        return {"val_psnr": batch_psnr(output, pixels), "val_latent_std": float(latents.std())}

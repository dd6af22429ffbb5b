"""The temporal decoder (paper, section 4.3): short sequences through the frozen encoder and the decoder that trains."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.config import MoVQConfig
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.models.movq.movq import MoVQ, inflate_movq
from fusionframes_core.models.temporal import temporal_parameters

from ..data.sources import DrawPixels
from ..engine.figures import Figures
from ..engine.objective import Batch
from ..moving_shapes.scene_pixels import random_clips
from .held_out import device_of
from .initial_weights import load_image_part
from .perceptual_loss import Discriminator, adversarial_losses, feature_distance
from .reconstruction import ReconstructionLoss, batch_psnr, flicker_loss

TRAINED_PARTS = ("temporal", "decoder")


class VideoDecoder(nn.Module):
    """The frozen encoder and the decoder that trains, over latents disturbed a little; and its judge, if any."""

    def __init__(self, movq: MoVQ, adversarial: bool = False) -> None:
        super().__init__()
        self.movq = movq
        self.judge = Discriminator() if adversarial else None

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """pixels (B, 3, T, H, W) → their reconstruction, and the judge's hinge losses.

        noise (B,) is the deviation of each clip's disturbance.
        """
        with torch.no_grad():
            latents = self.movq.encode(pixels)
        latents = latents + noise.reshape(-1, 1, 1, 1, 1) * torch.randn_like(latents)
        output = self.movq.decode(latents)
        return output, None if self.judge is None else adversarial_losses(self.judge, output, pixels)


def decoder_model(config: MoVQConfig, image_movq: Path, trained_parts: str) -> MoVQ:
    """The video autoencoder of `config` over the image one: its temporal layers train, or its whole decoder.

    Raises ValueError for other `trained_parts`, and where nothing would train: an image decoder has no temporal layers.
    """
    if trained_parts not in TRAINED_PARTS:
        raise ValueError(f"parts must be one of {', '.join(TRAINED_PARTS)}; got {trained_parts!r}")
    base = MoVQ(dataclasses.replace(config, decoder="image"))
    load_image_part(base, image_movq)
    movq = inflate_movq(base, config)
    movq.requires_grad_(False)
    trained = temporal_parameters(movq) if trained_parts == "temporal" else movq.decoder.named_parameters()
    for _, parameter in trained:
        parameter.requires_grad_(True)
    return movq


@dataclass(frozen=True)
class DecoderObjective:
    """Reconstruction of sequences by a VideoDecoder, with terms for flicker, frozen features and a judge of frames.

    `encoder` is the unwrapped autoencoder, whose frozen encoder gives the features; `latent_noise` the largest
    deviation of the noise on a clip's latents. A weight of 0 leaves its term out.
    """

    draw: DrawPixels
    batch_size: int
    encoder: MoVQ
    reconstruction: ReconstructionLoss
    latent_noise: float = 0.05
    flicker_weight: float = 0.5
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0

    def make_batch(self, rng: np.random.Generator) -> Batch:
        """`pixels` (B, 3, T, H, W) and `noise` (B,)."""
        noise = torch.from_numpy(rng.uniform(0, self.latent_noise, self.batch_size)).float()
        return {"pixels": self.draw(rng, self.batch_size), "noise": noise}

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        """The weighted sum of the terms; a judge's own loss comes with weight 1."""
        pixels = batch["pixels"]
        output, adversarial = model(pixels, batch["noise"])
        reconstruction, flicker = self.reconstruction(output, pixels), flicker_loss(output, pixels)
        total = reconstruction + self.flicker_weight * flicker
        figures: Figures = {"psnr": batch_psnr(output.detach(), pixels), "flicker": flicker.item()}
        if self.perceptual_weight:
            distance = feature_distance(self.encoder, output, pixels)
            total, figures["perceptual"] = total + self.perceptual_weight * distance, distance.item()
        if adversarial is not None:
            generator, judge = adversarial
            total = total + self.adversarial_weight * generator + judge
            figures |= {"generator": generator.item(), "judge": judge.item()}
        return total, figures

    def sample(self, model: nn.Module) -> np.ndarray:
        """A sequence beside its reconstruction, uint8 (T, H, 2 W, 3)."""
        pixels = self.draw(np.random.default_rng(2), 1).to(device_of(model))
        movq = movq_of(model)
        return to_uint8(torch.cat((pixels, movq.decode(movq.encode(pixels))), dim=-1)[0])


@dataclass(frozen=True)
class DecoderValidation:
    """PSNR and flicker of the image and of the temporal decoder on 16 sequences of unseen combinations."""

    frames: int
    size: int
    at_once: int  # that go through the model: as many as a training step has

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """Figures of a VideoDecoder."""
        pixels = random_clips(np.random.default_rng(1), 16, self.frames, self.size, held_out=True)
        movq, found = movq_of(model), []
        for some in pixels.split(self.at_once):
            latents = movq.encode(some.to(device_of(model)))
            found.append([movq.decode(latents, temporal=temporal).cpu() for temporal in (False, True)])
        image, video = (torch.cat(parts) for parts in zip(*found, strict=True))
        return {
            "val_psnr_image": batch_psnr(image, pixels),
            "val_psnr_video": batch_psnr(video, pixels),
            "val_flicker_image": float(flicker_loss(image, pixels)),
            "val_flicker_video": float(flicker_loss(video, pixels)),
        }


def movq_of(model: nn.Module) -> MoVQ:
    """The autoencoder of a VideoDecoder."""
    assert isinstance(model, VideoDecoder)
    return model.movq

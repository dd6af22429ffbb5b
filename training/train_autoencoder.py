"""Base stage: the image autoencoder (MoVQ with its image decoder) on single frames of Moving Shapes.

`python -m training.train_autoencoder --config training/configs/tiny_autoencoder.yaml`; with `decoder_only` the encoder
stays as `init` has it, so that latents already encoded stay valid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.models.movq.movq import MoVQ

from .engine.figures import Figures
from .engine.model_config import model_config
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .moving_shapes.scenes import CLIP_LENGTH, render, sample_scene
from .objectives.initial_weights import load_image_part


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


def to_pixels(frames: np.ndarray) -> Tensor:
    """uint8 (..., T, H, W, 3) → float32 (..., 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).movedim(-1, -4).float().div(127.5).sub(1.0)


def foreground_weight(pixels: Tensor, weight: float) -> Tensor:
    """1 on the background and `weight` on the shape, told by its distance from the frame's median colour."""
    median = pixels.flatten(-2).median(dim=-1).values[..., None, None]
    distance = (pixels - median).abs().amax(dim=1, keepdim=True)
    return 1.0 + (weight - 1.0) * (distance > 0.15).float()


def reconstruction_loss(
    output: Tensor, pixels: Tensor, weight: float, l1_weight: float = 1.0, l2_weight: float = 2.0
) -> Tensor:
    """Weighted l1_weight · L1 + l2_weight · MSE; the mean weight is divided out."""
    weights = foreground_weight(pixels, weight)
    error = (output - pixels).abs()
    return ((l1_weight * error + l2_weight * error.square()) * weights).mean() / weights.mean()


def psnr(output: Tensor, pixels: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of videos in [-1, 1], from the mean squared error over everything."""
    error = (output.clamp(-1, 1) - pixels).square().mean()
    return float(10 * torch.log10(4.0 / error.detach()))


def random_frames(rng: np.random.Generator, count: int, size: int, held_out: bool = False) -> Tensor:
    """(count, 3, 1, size, size): single frames of random scenes."""
    frames = [render(sample_scene(rng, held_out), np.array([rng.uniform(0, CLIP_LENGTH)]), size) for _ in range(count)]
    return to_pixels(np.stack(frames))


def still_source(data: list[Path] | None, size: int) -> Callable[[np.random.Generator, int], Tensor]:
    """A function (rng, count) → pixels (count, 3, 1, H, W): of prepared folders, or of Moving Shapes."""
    if not data:
        return lambda rng, count: random_frames(rng, count, size)
    from .data.prepared_clips import PreparedClips

    clips = PreparedClips(data)
    return lambda rng, count: clips.sequences(rng, count, 1).frames


def train(
    train: TrainSettings,
    preset: str = "tiny",
    init: Path | None = None,
    decoder_only: bool = False,
    latent_noise: float = 0.05,
    shape_weight: float = 4.0,
    l1_weight: float = 1.0,
    l2_weight: float = 2.0,
    latent_std: float = 0.5,
    data: list[Path] | None = None,
) -> None:
    """Train the image autoencoder of `preset` and write `movq.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size, rates.
        preset: model whose MoVQ configuration is trained (with its image decoder).
        init: weights to start from, of a video autoencoder their image part.
        decoder_only: freeze the encoder.
        latent_noise: standard deviation of the noise on the latents.
        shape_weight: weight of the shape's pixels against the background's.
        l1_weight: weight of the absolute error.
        l2_weight: weight of the squared error.
        latent_std: standard deviation towards which every latent channel is drawn.
        data: folders made by training.prepare with --keep pixels, instead of Moving Shapes drawn on the fly.
    """
    torch.manual_seed(train.seed)  # of the initial weights
    config = model_config(preset)
    movq = MoVQ(dataclasses.replace(config.movq, decoder="image"))
    if init is not None:
        load_image_part(movq, init)
    if decoder_only:
        movq.encoder.requires_grad_(False)
        movq.quant_conv.requires_grad_(False)
    size = config.size[0]
    draw = still_source(data, size)

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        output, latents = model(batch["pixels"], latent_noise)
        mean, std = latents.mean(dim=(0, 2, 3, 4)), latents.std(dim=(0, 2, 3, 4))
        spread = mean.square().mean() + (std - latent_std).square().mean()
        reconstruction = reconstruction_loss(output, batch["pixels"], shape_weight, l1_weight, l2_weight)
        return reconstruction + 0.1 * spread, {"psnr": psnr(output, batch["pixels"]), "spread": spread.item()}

    def validate(model: nn.Module) -> dict[str, float]:
        pixels = random_frames(np.random.default_rng(1), 128, size, held_out=True)
        output, latents = model(pixels, 0.0)
        return {"val_psnr": psnr(output, pixels), "val_latent_std": float(latents.std())}

    trainer = Trainer(
        train,
        NoisyAutoencoder(movq),
        loss,
        lambda rng: {"pixels": draw(rng, train.batch_size)},
        None if data else validate,
        stage="autoencoder",
        architecture={"movq": dataclasses.replace(config.movq, decoder="image")},
    )
    trainer.run()
    trainer.export("movq.safetensors", "movq.")


if __name__ == "__main__":
    run_command(train)

"""Stage 3 of the paper (section 4.3): the temporal decoder on 8-frame sequences, encoder frozen.

`python -m training.train_decoder --config training/configs/tiny_decoder.yaml`
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints import load_weights
from fusionframes_core.models.movq import MoVQ, inflate_movq, temporal_parameters
from fusionframes_core.presets import PRESETS

from .engine import Batch, Trainer, TrainSettings
from .moving_shapes import CLIP_LENGTH, render, sample_scene
from .settings import run_command
from .train_autoencoder import psnr, reconstruction_loss, to_pixels

PARTS = ("temporal", "decoder")


class VideoDecoder(nn.Module):
    """The frozen encoder and the decoder that trains, over latents disturbed a little."""

    def __init__(self, movq: MoVQ) -> None:
        super().__init__()
        self.movq = movq

    def forward(self, pixels: Tensor, noise: Tensor) -> Tensor:
        """pixels (B, 3, T, H, W) → their reconstruction; noise (B,) is the deviation of each clip's disturbance."""
        with torch.no_grad():
            latents = self.movq.encode(pixels)
        latents = latents + noise.reshape(-1, 1, 1, 1, 1) * torch.randn_like(latents)
        return self.movq.decode(latents)


def decoder_model(preset: str, image_movq: Path, parts: str) -> MoVQ:
    """The video autoencoder over the image one; `parts` says what trains: its temporal layers or its whole decoder."""
    if parts not in PARTS:
        raise ValueError(f"parts must be one of {', '.join(PARTS)}; got {parts!r}")
    config = PRESETS[preset].movq
    base = MoVQ(dataclasses.replace(config, decoder="image"))
    load_weights(base, image_movq)
    movq = inflate_movq(base, config)
    movq.requires_grad_(False)
    trained = temporal_parameters(movq) if parts == "temporal" else movq.decoder.named_parameters()
    for _, parameter in trained:
        parameter.requires_grad_(True)
    return movq


def random_clips(rng: np.random.Generator, count: int, frames: int, size: int, held_out: bool = False) -> Tensor:
    """(count, 3, frames, size, size): neighbouring frames 0.75 to 12 base frames apart, 3 the most often."""
    clips = []
    for _ in range(count):
        step = 3.0 if rng.random() < 0.5 else float(rng.choice([0.75, 1.5, 3.0, 6.0, 12.0]))
        start = rng.uniform(0, max(0.0, CLIP_LENGTH - step * (frames - 1)))
        clips.append(render(sample_scene(rng, held_out), start + step * np.arange(frames), size))
    return to_pixels(np.stack(clips))


def flicker(output: Tensor, pixels: Tensor) -> Tensor:
    """Mean absolute difference between the changes from frame to frame in the output and in the truth."""
    return (output.diff(dim=2) - pixels.diff(dim=2)).abs().mean()


def train(
    train: TrainSettings,
    movq: Path,
    preset: str = "tiny",
    parts: str = "temporal",
    frames: int = 8,
    latent_noise: float = 0.05,
    shape_weight: float = 4.0,
    l1_weight: float = 1.0,
    flicker_weight: float = 0.5,
) -> None:
    """Train the temporal decoder of `preset` and write `movq.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        movq: image autoencoder weights to start from.
        preset: model whose decoder (Table 3) is trained.
        parts: "temporal" trains the temporal layers only, "decoder" the whole decoder.
        frames: frames of a sequence.
        latent_noise: largest standard deviation of the noise on a clip's latents.
        shape_weight: weight of the shape's pixels against the background's.
        l1_weight: weight of the absolute error; that of the squared one is 2.
        flicker_weight: weight of the flicker term.
    """
    torch.manual_seed(train.seed)  # of the initial weights
    config = PRESETS[preset]
    model = VideoDecoder(decoder_model(preset, movq, parts))
    size = config.size[0]

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        pixels = batch["pixels"]
        output = model(pixels, batch["noise"])
        flat = reconstruction_loss(output, pixels, shape_weight, l1_weight)
        trembling = flicker(output, pixels)
        return flat + flicker_weight * trembling, {"psnr": psnr(output.detach(), pixels), "flicker": trembling.item()}

    def make_batch(rng: np.random.Generator) -> Batch:
        noise = torch.from_numpy(rng.uniform(0, latent_noise, train.batch_size)).float()
        return {"pixels": random_clips(rng, train.batch_size, frames, size), "noise": noise}

    def validate(model: nn.Module) -> dict[str, float]:
        pixels = random_clips(np.random.default_rng(1), 16, frames, size, held_out=True)
        latents = model.movq.encode(pixels)
        image, video = (model.movq.decode(latents, temporal=temporal) for temporal in (False, True))
        return {
            "val_psnr_image": psnr(image, pixels),
            "val_psnr_video": psnr(video, pixels),
            "val_flicker_image": float(flicker(image, pixels)),
            "val_flicker_video": float(flicker(video, pixels)),
        }

    trainer = Trainer(train, model, loss, make_batch, validate, stage="decoder", frames=frames)
    trainer.run()
    trainer.export("movq.safetensors", "movq.")


if __name__ == "__main__":
    run_command(train)

"""Stage 3 of the paper (section 4.3): the temporal decoder on 8-frame sequences, encoder frozen.

`python -m training.train_decoder --config training/configs/tiny_decoder.yaml`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.media.frames import to_uint8
from fusionframes_core.models.movq.movq import MoVQ, inflate_movq
from fusionframes_core.models.temporal import temporal_parameters

from .engine.figures import Figures
from .engine.model_config import model_config
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .moving_shapes.scenes import CLIP_LENGTH, render, sample_scene
from .objectives.initial_weights import load_image_part
from .objectives.perceptual_loss import Discriminator, adversarial_losses, feature_distance
from .train_autoencoder import psnr, reconstruction_loss, to_pixels

PARTS = ("temporal", "decoder")


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


def decoder_model(preset: str, image_movq: Path, parts: str, decoder: str | None = None) -> MoVQ:
    """The video autoencoder over the image one; `parts` says what trains: its temporal layers or its whole decoder.

    Raises ValueError where nothing would: an image decoder has no temporal layers.
    """
    if parts not in PARTS:
        raise ValueError(f"parts must be one of {', '.join(PARTS)}; got {parts!r}")
    config = model_config(preset).movq
    config = config if decoder is None else dataclasses.replace(config, decoder=decoder)
    base = MoVQ(dataclasses.replace(config, decoder="image"))
    load_image_part(base, image_movq)
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


def pixel_source(data: list[Path] | None, frames: int, size: int) -> Callable[[np.random.Generator, int], Tensor]:
    """A function (rng, count) → pixels (count, 3, frames, H, W): of prepared folders, or of Moving Shapes."""
    if not data:
        return lambda rng, count: random_clips(rng, count, frames, size)
    from .data.prepared_clips import PreparedClips

    clips = PreparedClips(data)
    return lambda rng, count: clips.sequences(rng, count, frames).frames


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
    l2_weight: float = 2.0,
    flicker_weight: float = 0.5,
    decoder: str | None = None,
    perceptual_weight: float = 0.0,
    adversarial_weight: float = 0.0,
    data: list[Path] | None = None,
) -> None:
    """Train the temporal decoder of `preset` and write `movq.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        movq: autoencoder weights to start from, of which the image part counts.
        preset: model whose decoder (Table 3) is trained.
        parts: "temporal" trains the temporal layers only, "decoder" the whole decoder.
        frames: frames of a sequence.
        latent_noise: largest standard deviation of the noise on a clip's latents.
        shape_weight: weight of the shape's pixels against the background's.
        l1_weight: weight of the absolute error.
        l2_weight: weight of the squared error.
        flicker_weight: weight of the flicker term.
        decoder: a decoder of Table 3 instead of the preset's.
        perceptual_weight: weight of an LPIPS-style distance between features of the frozen encoder; 0: none.
        adversarial_weight: weight of a judge of single frames that trains along; 0: none.
        data: folders made by training.prepare, instead of Moving Shapes drawn on the fly.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1; got {frames}")
    torch.manual_seed(train.seed)  # of the initial weights
    config = model_config(preset)
    model = VideoDecoder(decoder_model(preset, movq, parts, decoder), adversarial_weight > 0)
    frozen = model.movq  # its encoder; never the wrapped model
    size = config.size[0]

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        pixels = batch["pixels"]
        output, adversarial = model(pixels, batch["noise"])
        flat = reconstruction_loss(output, pixels, shape_weight, l1_weight, l2_weight)
        trembling = flicker(output, pixels)
        total = flat + flicker_weight * trembling
        figures: Figures = {"psnr": psnr(output.detach(), pixels), "flicker": trembling.item()}
        if perceptual_weight:
            distance = feature_distance(frozen, output, pixels)
            total, figures["perceptual"] = total + perceptual_weight * distance, distance.item()
        if adversarial is not None:
            total = total + adversarial_weight * adversarial[0] + adversarial[1]
            figures |= {"generator": adversarial[0].item(), "judge": adversarial[1].item()}
        return total, figures

    draw = pixel_source(data, frames, size)

    def make_batch(rng: np.random.Generator) -> Batch:
        noise = torch.from_numpy(rng.uniform(0, latent_noise, train.batch_size)).float()
        return {"pixels": draw(rng, train.batch_size), "noise": noise}

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

    def sample(model: nn.Module) -> np.ndarray:
        device = next(model.parameters()).device
        pixels = draw(np.random.default_rng(2), 1).to(device)
        return to_uint8(torch.cat((pixels, model.movq.decode(model.movq.encode(pixels))), dim=-1)[0])  # truth, ours

    measure = None if data else validate
    built = {"movq": dataclasses.replace(config.movq, decoder=decoder or config.movq.decoder)}
    trainer = Trainer(
        train, model, loss, make_batch, measure, stage="decoder", sample=sample, frames=frames, architecture=built
    )
    trainer.run()
    trainer.export("movq.safetensors", "movq.")


if __name__ == "__main__":
    run_command(train)

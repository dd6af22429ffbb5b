"""Base stage: the text-to-image U-Net on single frames, which the keyframe and interpolation stages start from.

`python -m training.train_image --config training/configs/tiny_image.yaml`
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.config import UNetConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet, initialise
from fusionframes_core.sampling.schedule import NoiseSchedule

from .data.sources import Source, open_held_out, open_source
from .engine.figures import Figures, held_out_figures
from .engine.model_config import model_config
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .objectives.denoising import NoiseLevels, denoising_loss
from .objectives.initial_weights import load_image_part


def image_config(config: UNetConfig) -> UNetConfig:
    """The text-to-image trunk of a keyframe U-Net."""
    return dataclasses.replace(config, temporal="none")


def load_text_encoder(folder: Path, preset: str) -> TextEncoder:
    """The frozen text encoder of a run's folder."""
    encoder = TextEncoder(model_config(preset).text, load_tokenizer(folder))
    load_weights(encoder, Path(folder) / "text_encoder.safetensors")
    return encoder.eval().requires_grad_(False)


def train(
    train: TrainSettings,
    clips: list[Path] | None = None,
    text_encoder: Path | None = None,
    validation_clips: list[Path] | None = None,
    preset: str = "tiny",
    init: Path | None = None,
    high_share: float = 0.3,
    data: list[Path] | None = None,
    validation_data: list[Path] | None = None,
) -> None:
    """Train the text-to-image U-Net of `preset` and write `image.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size, rates.
        clips: keyframe latents of Moving Shapes, made by training.latents.
        text_encoder: folder with text_encoder.safetensors and tokenizer.json.
        validation_clips: latents of held-out combinations.
        preset: model whose keyframe configuration is trained without its temporal blocks.
        init: weights to start from, of a keyframe U-Net their image part.
        high_share: share of the noise levels drawn from the upper half.
        data: instead of clips, folders made by training.prepare.
        validation_data: instead of validation_clips, such folders.
    """
    torch.manual_seed(train.seed)  # of the initial weights
    config = model_config(preset)
    model = UNet(image_config(config.keyframe))
    initialise(model)
    if init is not None:
        load_image_part(model, init)
    encoder = load_text_encoder(text_encoder, preset) if text_encoder else None
    source = open_source(data, clips, encoder, "images")
    held_out = open_held_out(validation_data, validation_clips, encoder, "images")
    schedule = NoiseSchedule.from_config(config.keyframe_schedule)
    prediction, levels = config.keyframe_schedule.prediction, NoiseLevels(high_share)

    def make_batch(rng: np.random.Generator, source: Source = source, count: int = train.batch_size) -> Batch:
        drawn = source.images(rng, count)
        t = levels.draw(rng, count, schedule.num_steps)
        return {"latents": drawn.latents, "t": t, "text": drawn.text(rng)}

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        condition = KeyframeCondition(batch["text"].context, batch["text"].mask, positions=None)
        return denoising_loss(lambda x, t: model(x, t, condition), batch["latents"], batch["t"], schedule, prediction)

    def validate(model: nn.Module) -> dict[str, float]:
        torch.manual_seed(0)
        return held_out_figures(*loss(model, make_batch(np.random.default_rng(1), held_out, 256)))

    built = {"image": model.config, "keyframe_schedule": config.keyframe_schedule}
    measure = validate if held_out is not None else None
    trainer = Trainer(train, model, loss, make_batch, measure, stage="image", architecture=built)
    trainer.run()
    trainer.export("image.safetensors")


if __name__ == "__main__":
    run_command(train)

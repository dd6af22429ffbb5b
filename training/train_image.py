"""Base stage: the text-to-image U-Net on single frames, which the keyframe and interpolation stages start from.

`python -m training.train_image --config training/configs/tiny_image.yaml`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fusionframes_core.config import ModelConfig
from fusionframes_core.models.unet.unet import UNet, initialise

from .data.sources import open_held_out, open_source
from .engine.model_config import PresetStage
from .engine.objective import StageSpec
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .objectives.denoising import NoiseLevels
from .objectives.held_out import HeldOutLoss
from .objectives.image_objective import ImageObjective
from .objectives.initial_weights import image_config, load_image_part, load_text_encoder

HELD_OUT_FRAMES = 256


@dataclass(frozen=True)
class ImageStage(PresetStage):
    """Train the text-to-image U-Net of `preset` and write `image.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size, rates.
        clips: keyframe latents of Moving Shapes, made by training.latents.
        text_encoder: folder with text_encoder.safetensors and tokenizer.json.
        validation_clips: latents of held-out combinations.
        preset: model whose keyframe configuration is trained without its temporal blocks.
        init: weights to start from, of a keyframe U-Net their image part.
        high_share: share of the noise levels drawn from the upper half.
        low_share: share drawn from the lower half, where outlines are decided.
        data: instead of clips, folders made by training.prepare.
        validation_data: instead of validation_clips, such folders.
    """

    train: TrainSettings
    clips: list[Path] | None = None
    text_encoder: Path | None = None
    validation_clips: list[Path] | None = None
    preset: str = "tiny"
    init: Path | None = None
    high_share: float = 0.3
    low_share: float = 0.0
    data: list[Path] | None = None
    validation_data: list[Path] | None = None

    def train_model(self, config: ModelConfig) -> None:
        """Train the image trunk of `config`. Raises ValueError for settings and data that do not fit."""
        torch.manual_seed(self.train.seed)  # of the initial weights
        model = UNet(image_config(config.keyframe))
        initialise(model)
        if self.init is not None:
            load_image_part(model, self.init)
        encoder = load_text_encoder(self.text_encoder, config.text) if self.text_encoder else None
        source = open_source(self.data, self.clips, encoder, "images")
        held_out = open_held_out(self.validation_data, self.validation_clips, encoder, "images")
        levels = NoiseLevels(self.high_share, self.low_share)
        objective = ImageObjective(config, source, self.train.batch_size, levels)
        validate = None
        if held_out is not None:
            validate = HeldOutLoss(
                replace(objective, source=held_out, batch_size=HELD_OUT_FRAMES), self.train.batch_size
            )
        architecture = {"image": model.config, "keyframe_schedule": config.keyframe_schedule}
        spec = StageSpec("image", architecture=architecture, validate=validate)
        trainer = Trainer(self.train, model, objective, spec)
        trainer.run()
        trainer.export("image.safetensors")


if __name__ == "__main__":
    run_stage(ImageStage)

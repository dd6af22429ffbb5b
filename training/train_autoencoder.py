"""Base stage: the image autoencoder (MoVQ with its image decoder) on single frames of Moving Shapes.

`python -m training.train_autoencoder --config training/configs/tiny_autoencoder.yaml`; with `decoder_only` the encoder
stays as `init` has it, so that latents already encoded stay valid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fusionframes_core.config import ModelConfig
from fusionframes_core.models.movq.movq import MoVQ

from .data.sources import open_frames
from .engine.model_config import PresetStage
from .engine.objective import StageSpec
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .objectives.autoencoder_objective import AutoencoderObjective, AutoencoderValidation, NoisyAutoencoder
from .objectives.initial_weights import load_image_part
from .objectives.reconstruction import ReconstructionLoss


@dataclass(frozen=True)
class AutoencoderStage(PresetStage):
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

    train: TrainSettings
    preset: str = "tiny"
    init: Path | None = None
    decoder_only: bool = False
    latent_noise: float = 0.05
    shape_weight: float = 4.0
    l1_weight: float = 1.0
    l2_weight: float = 2.0
    latent_std: float = 0.5
    data: list[Path] | None = None

    def train_model(self, config: ModelConfig) -> None:
        """Train the image autoencoder of `config`. Raises ValueError for settings and weights that do not fit."""
        torch.manual_seed(self.train.seed)  # of the initial weights
        movq_config = replace(config.movq, decoder="image")
        movq = MoVQ(movq_config)
        if self.init is not None:
            load_image_part(movq, self.init)
        if self.decoder_only:
            movq.encoder.requires_grad_(False)
            movq.quant_conv.requires_grad_(False)
        objective = AutoencoderObjective(
            open_frames(self.data, config.size[0]),
            self.train.batch_size,
            ReconstructionLoss(self.shape_weight, self.l1_weight, self.l2_weight),
            self.latent_noise,
            self.latent_std,
        )
        validate = None if self.data else AutoencoderValidation(config.size[0], self.train.batch_size)
        spec = StageSpec("autoencoder", architecture={"movq": movq_config}, validate=validate)
        trainer = Trainer(self.train, NoisyAutoencoder(movq), objective, spec)
        trainer.run()
        trainer.export("movq.safetensors", "movq.")


if __name__ == "__main__":
    run_stage(AutoencoderStage)

"""Base stage: the tiny text encoder, taught to read attributes out of Moving Shapes' captions.

`python -m training.train_text_encoder --config training/configs/tiny_text_encoder.yaml` writes
`text_encoder.safetensors` and `tokenizer.json`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fusionframes_core.config import ModelConfig
from fusionframes_core.files import atomic_path
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer

from .engine.model_config import PresetStage
from .engine.objective import StageSpec
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .moving_shapes.shapes_tokenizer import build_tokenizer
from .objectives.attribute_objective import AttributeObjective, AttributeReader, AttributeValidation


@dataclass(frozen=True)
class TextEncoderStage(PresetStage):
    """Train the text encoder of `preset` and write it with its tokenizer to the run's folder.

    Args:
        train: the run: output folder, steps, batch size, rates.
        preset: model whose text encoder is trained.
        unknown_rate: share of captions that get a word outside the vocabulary.
        mean_noise: standard deviation of the noise on the mean over tokens, so that attributes lie far apart in it.
        validation_captions: held-out captions that the accuracies are measured on.
    """

    train: TrainSettings
    preset: str = "tiny"
    unknown_rate: float = 0.15
    mean_noise: float = 0.2
    validation_captions: int = 4000

    def train_model(self, config: ModelConfig) -> None:
        """Train the text encoder of `config`."""
        self.train.output.mkdir(parents=True, exist_ok=True)
        path = self.train.output / "tokenizer.json"
        with atomic_path(path) as partial:  # of its own for each process
            build_tokenizer().save(str(partial))
        torch.manual_seed(self.train.seed)  # of the initial weights
        encoder = TextEncoder(config.text, load_tokenizer(path))
        encoder.null_embedding.requires_grad_(False)  # the U-Nets learn what it means
        objective = AttributeObjective(self.train.batch_size, self.unknown_rate, self.mean_noise)
        validate = AttributeValidation(self.validation_captions)
        spec = StageSpec("text_encoder", architecture={"text": encoder.config}, validate=validate)
        trainer = Trainer(self.train, AttributeReader(encoder), objective, spec)
        trainer.run()
        trainer.export("text_encoder.safetensors", "encoder.")


if __name__ == "__main__":
    run_stage(TextEncoderStage)

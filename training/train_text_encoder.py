"""Base stage: the tiny text encoder, taught to read attributes out of Moving Shapes' captions; then other wordings.

`python -m training.train_text_encoder --config training/configs/tiny_text_encoder.yaml` writes
`text_encoder.safetensors` and `tokenizer.json`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fusionframes_core.config import ModelConfig
from fusionframes_core.files import atomic_path
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer

from .engine.model_config import PresetStage
from .engine.objective import Objective, StageSpec, Validate
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .moving_shapes.shapes_tokenizer import build_tokenizer
from .objectives.attribute_objective import AttributeObjective, AttributeReader, AttributeValidation
from .objectives.initial_weights import load_text_encoder
from .objectives.paraphrase_objective import ContextReader, ParaphraseObjective, ParaphraseValidation


@dataclass(frozen=True)
class TextEncoderStage(PresetStage):
    """Train the text encoder of `preset` and write it with its tokenizer to the run's folder.

    Args:
        train: the run: output folder, steps, batch size, rates.
        preset: model whose text encoder is trained.
        unknown_rate: share of captions that get a word outside the vocabulary.
        mean_noise: standard deviation of the noise on the mean over tokens, so that attributes lie far apart in it.
        validation_captions: held-out captions that the accuracies are measured on.
        init: folder of a trained text encoder that learns sentences of other wordings (training.moving_shapes
            .paraphrases), while its contexts of captions, which U-Nets were trained on, stay as they are.
    """

    train: TrainSettings
    preset: str = "tiny"
    unknown_rate: float = 0.15
    mean_noise: float = 0.2
    validation_captions: int = 4000
    init: Path | None = None

    def train_model(self, config: ModelConfig) -> None:
        """Train the text encoder of `config`."""
        self.train.output.mkdir(parents=True, exist_ok=True)
        path = self.train.output / "tokenizer.json"
        with atomic_path(path) as partial:  # of its own for each process
            build_tokenizer().save(str(partial))
        torch.manual_seed(self.train.seed)  # of the initial weights
        encoder = TextEncoder(config.text, load_tokenizer(path))
        encoder.null_embedding.requires_grad_(False)  # the U-Nets learn what it means
        architecture = {"text": encoder.config}
        if self.init is None:
            model: nn.Module = AttributeReader(encoder)
            objective: Objective = AttributeObjective(self.train.batch_size, self.unknown_rate, self.mean_noise)
            validate: Validate = AttributeValidation(self.validation_captions)
        else:
            teacher = load_text_encoder(self.init, config.text)
            encoder.load_state_dict(teacher.state_dict())
            model = ContextReader(encoder)
            objective = ParaphraseObjective(teacher, self.train.batch_size, self.unknown_rate)
            validate = ParaphraseValidation(teacher, self.validation_captions)
        trainer = Trainer(
            self.train, model, objective, StageSpec("text_encoder", architecture=architecture, validate=validate)
        )
        with warnings.catch_warnings():  # captions have words that it does not know on purpose
            warnings.filterwarnings("ignore", "words of the prompt")
            trainer.run()
        trainer.export("text_encoder.safetensors", "encoder.")


if __name__ == "__main__":
    run_stage(TextEncoderStage)

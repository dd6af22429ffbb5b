"""Stage 3 of the paper (section 4.3): the temporal decoder on 8-frame sequences, encoder frozen.

`python -m training.train_decoder --config training/configs/tiny_decoder.yaml`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fusionframes_core.config import ModelConfig

from .accounting.fitting import check_here
from .accounting.stage_plans import plan_decoder
from .data.sources import open_sequences
from .engine.model_config import PresetStage
from .engine.objective import StageSpec
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .objectives.decoder_objective import DecoderObjective, DecoderValidation, VideoDecoder, decoder_model
from .objectives.reconstruction import ReconstructionLoss


@dataclass(frozen=True)
class DecoderStage(PresetStage):
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

    train: TrainSettings
    movq: Path
    preset: str = "tiny"
    parts: str = "temporal"
    frames: int = 8
    latent_noise: float = 0.05
    shape_weight: float = 4.0
    l1_weight: float = 1.0
    l2_weight: float = 2.0
    flicker_weight: float = 0.5
    decoder: str | None = None
    perceptual_weight: float = 0.0
    adversarial_weight: float = 0.0
    data: list[Path] | None = None

    def train_model(self, config: ModelConfig) -> None:
        """Train the decoder of `config`'s autoencoder. Raises ValueError for settings and weights that do not fit."""
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1; got {self.frames}")
        movq_config = replace(config.movq, decoder=self.decoder or config.movq.decoder)
        check_here(plan_decoder(replace(config, movq=movq_config), self.train, self.frames, self.parts))
        torch.manual_seed(self.train.seed)  # of the initial weights
        movq = decoder_model(movq_config, self.movq, self.parts)
        model = VideoDecoder(movq, self.adversarial_weight > 0)
        objective = DecoderObjective(
            open_sequences(self.data, self.frames, config.size[0]),
            self.train.batch_size,
            movq,
            ReconstructionLoss(self.shape_weight, self.l1_weight, self.l2_weight),
            self.latent_noise,
            self.flicker_weight,
            self.perceptual_weight,
            self.adversarial_weight,
        )
        spec = StageSpec(
            "decoder",
            frames=self.frames,
            architecture={"movq": movq_config},
            validate=None if self.data else DecoderValidation(self.frames, config.size[0], self.train.batch_size),
            sample=objective.sample,
        )
        trainer = Trainer(self.train, model, objective, spec)
        trainer.run()
        trainer.export("movq.safetensors", "movq.")


if __name__ == "__main__":
    run_stage(DecoderStage)

"""Stage 2 of the paper (section 4.2): the interpolation U-Net, the whole of which trains, from text-to-image weights.

33 frames at skip-frame s ∈ {1, ..., 12}, 9 of them keyframes; keyframes perturbed by up to 250 forward-diffusion steps;
10 % unconditional; v-prediction. `python -m training.train_interp --config training/configs/tiny_interp.yaml`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fusionframes_core.config import ModelConfig

from .accounting.fitting import check_here
from .accounting.stage_plans import plan_interpolation
from .data.sources import Source, open_held_out, open_source
from .engine.model_config import PresetStage
from .engine.objective import Sampler, StageSpec
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .moving_shapes.clips import WINDOW
from .objectives.denoising import NoiseLevels
from .objectives.held_out import HeldOutLoss
from .objectives.initial_weights import load_text_encoder
from .objectives.interpolation_architectures import InterpolationStart, architecture_named
from .objectives.interpolation_objective import InterpolationObjective, KeyframeDropout
from .objectives.sample_videos import interpolation_sampler

HELD_OUT_CLIPS = 32


@dataclass(frozen=True)
class InterpolationStage(PresetStage):
    """Train the interpolation U-Net of `preset` and write `interpolation.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        clips: window latents of Moving Shapes, made by training.latents.
        text_encoder: folder with the text encoder, for its null embedding.
        validation_clips: window latents of held-out combinations.
        data: instead of clips, folders made by training.prepare.
        image: text-to-image weights to start from: a file of train_image, or of a keyframe U-Net.
        init: interpolation weights to start from instead.
        preset: model whose interpolation configuration is trained.
        input_copy: where the image's input kernel goes (appendix 9: `first`).
        output_copy: `replicate` (appendix 9) or `fresh`.
        high_share: share of the noise levels drawn from the upper half.
        last_share: share drawn at the last noise level alone, the only one that sampling of one step sees.
        perturbed_share: share of the clips whose keyframes are perturbed, by 0 to the model's limit steps.
        unconditional_share: share of the clips without keyframes and temporal layers (eq. 5, m = 0).
        window: frames taken of each clip, 4·G + 1.
        least_weight: samples are weighted by σ² but not below this; 1 weights all alike.
        base: "zero" or "blend" instead of what the preset's groups are differences from.
        architecture: "groups", or "masked" for Masked Frame Interpolation (appendix 10), the baseline.
        movq: the preset's video autoencoder, for sample videos.
        validation_data: instead of validation_clips, folders made by training.prepare.
    """

    train: TrainSettings
    clips: list[Path] | None = None
    text_encoder: Path | None = None
    validation_clips: list[Path] | None = None
    data: list[Path] | None = None
    image: Path | None = None
    init: Path | None = None
    preset: str = "tiny"
    input_copy: str = "first"
    output_copy: str = "replicate"
    high_share: float = 0.3
    last_share: float = 0.0
    perturbed_share: float = 0.4
    unconditional_share: float = 0.1
    window: int = WINDOW
    least_weight: float = 0.1
    base: str | None = None
    architecture: str = "groups"
    movq: Path | None = None
    validation_data: list[Path] | None = None

    def train_model(self, config: ModelConfig) -> None:
        """Train the interpolation U-Net of `config`.

        Raises ValueError for settings, weights and data that do not fit.
        """
        dropout = KeyframeDropout(self.perturbed_share, self.unconditional_share)
        architecture = architecture_named(self.architecture)
        if self.architecture == "groups":
            check_here(plan_interpolation(config, self.train, self.window))
        torch.manual_seed(self.train.seed)  # of the initial weights
        start = InterpolationStart(self.image, self.init, self.input_copy, self.output_copy)
        model = start.build(architecture, config)
        encoder = load_text_encoder(self.text_encoder, config.text) if self.text_encoder else None
        source = open_source(self.data, self.clips, encoder, "windows", self.window)
        held_out = open_held_out(self.validation_data, self.validation_clips, encoder, "windows", self.window)
        objective = InterpolationObjective(
            config,
            source,
            self.train.batch_size,
            NoiseLevels(self.high_share, last_share=self.last_share),
            self.least_weight,
            dropout,
            self.window,
            self.base,
            architecture,
        )
        trainer = Trainer(self.train, model, objective, self._spec(objective, held_out))
        trainer.run()
        trainer.export("interpolation.safetensors")

    def _spec(self, objective: InterpolationObjective, held_out: Source | None) -> StageSpec:
        config = objective.config
        return StageSpec(
            "interpolation" if self.architecture == "groups" else f"{self.architecture} interpolation",
            frames=self.window,
            architecture={
                "interpolation": config.interpolation,
                "interpolation_schedule": config.interpolation_schedule,
                "base": objective.base_name,
            },
            validate=None if held_out is None else held_out_loss(objective, held_out),
            sample=self._sampler(objective, held_out or objective.source),
        )

    def _sampler(self, objective: InterpolationObjective, source: Source) -> Sampler | None:
        if not self.train.sample_every:
            return None
        shown = source.windows(np.random.default_rng(2), 1, self.window)
        return interpolation_sampler(objective.config, objective.architecture.sample, objective.null, shown, self.movq)


def held_out_loss(objective: InterpolationObjective, held_out: Source) -> HeldOutLoss:
    """The loss on held-out clips that all have their keyframes, unperturbed as in sampling."""
    given = KeyframeDropout(perturbed_share=0.0, unconditional_share=0.0)
    unbroken = replace(objective, source=held_out, batch_size=HELD_OUT_CLIPS, dropout=given)
    return HeldOutLoss(unbroken, objective.batch_size)


if __name__ == "__main__":
    run_stage(InterpolationStage)

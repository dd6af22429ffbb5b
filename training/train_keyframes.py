"""Stage 1 of the paper (section 4.1): temporal blocks over a frozen text-to-image U-Net, on 16 keyframes.

`python -m training.train_keyframes --config training/configs/tiny_keyframes.yaml`
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.temporal_blocks import save_temporal_weights, temporal_path
from fusionframes_core.config import ModelConfig, UNetConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.unet import UNet

from .accounting.fitting import check_here
from .accounting.stage_plans import plan_keyframes
from .data.sources import ShapesSource, open_held_out, open_source
from .engine.model_config import PresetStage
from .engine.objective import Sampler, StageSpec
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .objectives.denoising import NoiseLevels
from .objectives.distinct_frames import tell_frames_apart
from .objectives.held_out import HeldOutLoss
from .objectives.initial_weights import load_text_encoder
from .objectives.keyframe_objective import KeyframeObjective
from .objectives.keyframe_start import choose_trained, keyframe_model
from .objectives.sample_videos import keyframe_sampler

HELD_OUT_CLIPS = 32


@dataclass(frozen=True)
class KeyframeStage(PresetStage):
    """Train the temporal blocks of `preset` and write `keyframe.safetensors` to the run's folder.

    Of another conditioning than the preset's also `temporal_<name>.safetensors`, for the model folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        clips: keyframe latents of Moving Shapes, made by training.latents.
        text_encoder: folder with text_encoder.safetensors and tokenizer.json.
        validation_clips: latents of held-out combinations, to measure the averaged weights on.
        data: instead of clips, folders made by training.prepare.
        image: text-to-image weights: a file of train_image, or of a keyframe U-Net.
        init: keyframe weights to start from, of `temporal` or of the preset's: what fits; with `image`, their temporal
            parts only.
        parts: what trains: "temporal", over image weights that stay frozen, as in the paper, or "all" of the U-Net
            together. The temporal parts of other conditionings have to be trained anew over such image weights.
        distinct_frames: begin with sharp functions of a frame's number in its embedding, which changes no output: what
            differs from frame to frame is learned far sooner. For positions by "index"; "spread" ones have no need.
        preset: model whose keyframe configuration is trained.
        high_share: share of the noise levels drawn from the upper half, where motion is decided.
        least_weight: samples are weighted by σ² but not below this; 1 weights all alike.
        steady_weight: the loss also counts, so many times, how unlike each other the mean errors of a clip's frames
            are: what makes a background's level jump from frame to frame. 0: not at all.
        movq: the preset's video autoencoder, for sample videos.
        sample_prompt: what they show.
        temporal: a temporal conditioning (section 4.1) instead of the preset's.
        validation_data: instead of validation_clips, folders made by training.prepare.
    """

    train: TrainSettings
    clips: list[Path] | None = None
    text_encoder: Path | None = None
    validation_clips: list[Path] | None = None
    data: list[Path] | None = None
    image: Path | None = None
    init: Path | None = None
    parts: str = "temporal"
    distinct_frames: bool = False
    preset: str = "tiny"
    high_share: float = 0.65
    least_weight: float = 0.1
    steady_weight: float = 0.0
    movq: Path | None = None
    sample_prompt: str = "a large red circle moving right"
    temporal: str | None = None
    validation_data: list[Path] | None = None

    def train_model(self, config: ModelConfig) -> None:
        """Train the temporal parts of `config`'s keyframe U-Net.

        Raises ValueError for settings, weights and data that do not fit.
        """
        temporal = self.temporal or config.keyframe.temporal
        planned = replace(config, keyframe=replace(config.keyframe, temporal=temporal))
        check_here(plan_keyframes(planned, self.train, parts=self.parts))
        torch.manual_seed(self.train.seed)  # of the initial weights
        model = keyframe_model(config.keyframe, self.image, self.init, self.temporal)
        if self.distinct_frames and model.frame_embedding is not None:
            positions = frame_positions(config.frame_positions, config.num_frames)
            tell_frames_apart(model.frame_embedding.position, positions)
        choose_trained(model, self.parts)
        encoder = load_text_encoder(self.text_encoder, config.text) if self.text_encoder else None
        source = open_source(self.data, self.clips, encoder, "keyframes", config.num_frames)
        objective = KeyframeObjective(
            config,
            source,
            self.train.batch_size,
            NoiseLevels(self.high_share),
            self.least_weight,
            self.steady_weight,
        )
        spec = StageSpec(
            "keyframes",
            frames=config.num_frames,
            architecture={"keyframe": model.config, "keyframe_schedule": config.keyframe_schedule},
            validate=self._validation(objective, encoder),
            sample=self._sampler(config, encoder),
        )
        trainer = Trainer(self.train, model, objective, spec)
        trainer.run()
        trainer.export("keyframe.safetensors", metadata={"temporal": model.config.temporal})
        if model.config.temporal != config.keyframe.temporal and trainer.accelerator.is_main_process:
            export_temporal(model.config, self.train.output)

    def _validation(self, objective: KeyframeObjective, encoder: TextEncoder | None) -> HeldOutLoss | None:
        frames = objective.config.num_frames
        held_out = open_held_out(self.validation_data, self.validation_clips, encoder, "keyframes", frames)
        if held_out is None:
            return None
        gap = partial(objective.motion_gap, held_out) if isinstance(held_out, ShapesSource) else None
        return HeldOutLoss(replace(objective, source=held_out, batch_size=HELD_OUT_CLIPS), objective.batch_size, gap)

    def _sampler(self, config: ModelConfig, encoder: TextEncoder | None) -> Sampler | None:
        if not self.train.sample_every:
            return None
        if encoder is None:
            raise ValueError("sample_every needs text_encoder, the folder with text_encoder.safetensors; got none")
        return keyframe_sampler(config, encoder, self.sample_prompt, self.movq)


def export_temporal(config: UNetConfig, folder: Path) -> None:
    """The temporal parts of `keyframe.safetensors` alone: what a model folder holds beside its own conditioning."""
    model = UNet(config)
    load_weights(model, folder / "keyframe.safetensors")
    save_temporal_weights(model, temporal_path(folder, config.temporal))


if __name__ == "__main__":
    run_stage(KeyframeStage)

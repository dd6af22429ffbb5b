"""LoRA for artists: low-rank adapters of a keyframe or interpolation U-Net, for ComfyUI's stock LoRA loader.

`python -m training.train_lora --config training/configs/tiny_lora_ring.yaml` teaches FusionFrames Tiny rings, which it
never saw; the file goes into ComfyUI/models/loras and into LoraLoaderModelOnly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fusionframes_core.checkpoints.component import ModelParts
from fusionframes_core.checkpoints.lora import UNETS
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.config import ModelConfig

from .data.sources import ShapesSource, Source, open_source
from .engine.durable_files import full_disk_says
from .engine.objective import Objective, StageSpec
from .engine.run_settings import TrainSettings
from .engine.sharding import full_tensor
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .moving_shapes.clips import WINDOW, encode_clips
from .objectives.adapters import LoraModel, save_lora
from .objectives.denoising import NoiseLevels
from .objectives.interpolation_objective import InterpolationObjective
from .objectives.keyframe_objective import KeyframeObjective

TARGETS = ("to_query", "to_key", "to_value", "output_layer", "projection")
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "keyframe": KeyframeObjective,
    "interpolation": InterpolationObjective,
}


@dataclass(frozen=True)
class LoraStage:
    """Train adapters for one U-Net of a model and write `lora.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        model: "tiny" or a model folder.
        part: "keyframe" or "interpolation", the U-Net to adapt.
        rank: of the adapters.
        targets: endings of the names of the layers that get one; default: attention and convolutions.
        clips: latents made by training.latents with the model's autoencoder, with what is to be learned.
        shape: instead, draw clips of this shape of Moving Shapes: ring and hexagon are unknown to the bundled model.
        count: how many of them.
        high_share: share of the noise levels drawn from the upper half.
        data: instead, folders made by training.prepare with the model, of videos with what is to be learned.
    """

    train: TrainSettings
    model: str = "tiny"
    part: str = "keyframe"
    rank: int = 8
    targets: list[str] | None = None
    clips: list[Path] | None = None
    shape: str | None = None
    count: int = 200
    high_share: float = 0.5
    data: list[Path] | None = None

    def run(self) -> None:
        """Train the adapters. Raises ValueError for settings and data that do not fit."""
        if self.part not in UNETS:
            raise ValueError(f"part must be one of {', '.join(UNETS)}; got {self.part!r}")
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1; got {self.rank}")
        parts = open_model(self.model).load()
        torch.manual_seed(self.train.seed)  # of the adapters
        adapted = LoraModel(getattr(parts, self.part), self.rank, tuple(self.targets or TARGETS))
        draws, num_frames = drawn_by(parts.config, self.part)
        source = self._source(parts, draws, num_frames)
        objective: Objective = OBJECTIVES[self.part](
            parts.config, source, self.train.batch_size, NoiseLevels(self.high_share)
        )
        architecture = {self.part: getattr(parts.config, self.part), "rank": self.rank, "targets": adapted.names}
        spec = StageSpec(f"lora {self.part}", frames=num_frames, architecture=architecture)
        trainer = Trainer(self.train, adapted, objective, spec)
        trainer.run()
        self._export(trainer, adapted, parts.config.name)

    def _source(self, parts: ModelParts, draws: str, num_frames: int) -> Source:
        """Prepared folders, clips of training.latents, or `count` fresh ones of one shape."""
        given = (self.data or [], self.clips or [], self.shape)
        if [bool(choice) for choice in given].count(True) != 1:
            raise ValueError(
                f"one of data, clips and shape must say what to learn; got data {given[0]}, clips {given[1]} and "
                f"shape {self.shape!r}"
            )
        if not self.shape:
            return open_source(self.data, self.clips, parts.text_encoder, draws, num_frames)
        size, seed = parts.config.size[0], self.train.seed
        fresh = encode_clips(parts.movq, draws, self.count, seed, None, size, shape=self.shape)
        return ShapesSource(fresh, parts.text_encoder)

    def _export(self, trainer: Trainer, adapted: LoraModel, model_name: str) -> None:
        tensors = {name: full_tensor(value) for name, value in adapted.tensors().items()}
        if trainer.accelerator.is_main_process:
            metadata = {"fusionframes": f"lora {self.part}", "model": model_name, "rank": str(self.rank)}
            path = self.train.output / "lora.safetensors"
            with full_disk_says(f"no space left for {path}; the last checkpoint is intact"):
                save_lora(tensors, path, metadata)


def drawn_by(config: ModelConfig, part: str) -> tuple[str, int]:
    """What a U-Net trains on, by its name in `Source`, and how many frames of it."""
    return ("keyframes", config.num_frames) if part == "keyframe" else ("windows", WINDOW)


if __name__ == "__main__":
    run_stage(LoraStage)

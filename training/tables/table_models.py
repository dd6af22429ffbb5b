"""What the trained tables start from: the bundled model's shared parts, and clips encoded once."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path
from typing import Any

from fusionframes_core.checkpoints.component import COMPONENTS, ModelParts, build
from fusionframes_core.checkpoints.open_model import load_weights, model_folder
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE
from fusionframes_core.config import ModelConfig
from fusionframes_core.files import atomic_path
from fusionframes_core.models.temporal import temporal_parameters
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.presets import PRESETS

from ..engine.command_line import BadInput
from ..engine.model_config import PresetStage
from ..latents import prepare
from ..objectives.interpolation_architectures import architecture_named
from .runs import Budget
from .sweeps import pipeline_of

HELD_OUT_CLIPS = 100


@dataclasses.dataclass(frozen=True)
class Base:
    """Files that every row of a table trains from."""

    folder: Path
    image: Path  # text-to-image U-Net
    movq: Path  # image autoencoder

    def clips(self, kind: str, budget: Budget, held_out: bool = False) -> Path:
        """Latents of Moving Shapes, encoded when they are asked for first."""
        count = min(HELD_OUT_CLIPS, budget.training_clips) if held_out else budget.training_clips
        path = self.folder / f"{kind}_{count}{'_held_out' * held_out}.safetensors"
        if not path.is_file():
            prepare(path, self.movq, kind, count, seed=9 if held_out else 1, held_out=held_out, preset=budget.model)
        return path


def base_of(budget: Budget) -> Base:
    """The model's image U-Net (the frozen part of its keyframe U-Net), image autoencoder and text encoder, as files.

    Raises BadInput for a model that is no preset.
    """
    if budget.model not in PRESETS:
        raise BadInput(f"--model must be a bundled model; got {budget.model!r}")
    base = Base(*(budget.folder / "base" / name for name in ("", "image.safetensors", "movq.safetensors")))
    source = model_folder(budget.model)
    for name in ("text_encoder.safetensors", TOKENIZER_FILE):
        if not (base.folder / name).is_file():
            with atomic_path(base.folder / name) as partial:
                partial.write_bytes((source / name).read_bytes())
    parts = pipeline_of(budget.model).parts
    if not base.image.is_file():
        temporal = {name for name, _ in temporal_parameters(parts.keyframe)}
        state = parts.keyframe.state_dict()
        save_weights({name: value for name, value in state.items() if name not in temporal}, base.image, dtype=None)
    if not base.movq.is_file():
        image = build(dataclasses.replace(parts.config.movq, decoder="image"))
        state = parts.movq.state_dict()
        save_weights({name: state[name] for name in image.state_dict()}, base.movq, dtype=None)
    return base


def pipeline_with(
    config: ModelConfig, files: dict[str, Path], model: str, architecture: str = "groups"
) -> FusionFramesPipeline:
    """The pipeline of `model` with the components named in `files` built from `config` and loaded from there.

    `architecture` is that of the interpolation.
    """
    interpolation = architecture_named(architecture)
    builders = dict.fromkeys(COMPONENTS, build) | {"interpolation": interpolation.build}
    base = pipeline_of(model).parts
    components: dict[str, Any] = {name: getattr(base, name) for name in COMPONENTS}
    for name, path in files.items():
        components[name] = builders[name](getattr(config, name)).eval().requires_grad_(False)
        load_weights(components[name], path)
    pipeline = FusionFramesPipeline(ModelParts(config=config, **components))
    pipeline.interpolator = interpolation.sample
    return pipeline


def train_in_process(stage: PresetStage, config: ModelConfig, result: Path) -> Path:
    """Train a stage on `config` in a process of its own, unless its `result` is there, and return `result`.

    A stopped training is resumed from its checkpoint. Raises BadInput when the training fails.
    """
    if not result.is_file():
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=stage.train_model, args=(config,))
        process.start()
        process.join()
        if process.exitcode or not result.is_file():
            raise BadInput(f"training {result.parent} ended with exit code {process.exitcode}; see above")
    return result

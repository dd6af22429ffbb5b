"""LoRA for artists: low-rank adapters of a keyframe or interpolation U-Net, for ComfyUI's stock LoRA loader.

`python -m training.train_lora --config training/configs/tiny_lora_ring.yaml` teaches FusionFrames Tiny rings, which it
never saw; the file goes into ComfyUI/models/loras and into LoraLoaderModelOnly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fusionframes_core.checkpoints.component import StoredModel
from fusionframes_core.checkpoints.lora import matrices, under_our_names
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.config import ModelConfig
from fusionframes_core.settings import spatial_factor

from .accounting.card_memory import PlannedStage
from .accounting.fitting import check_here, compute_device
from .accounting.stage_plans import LoraPlan
from .data.prepared_clips import KEYFRAME_STEP
from .data.sources import PreparedSource, ShapesSource, Source, open_source
from .engine.durable_files import full_disk_says
from .engine.objective import Objective, Sampler, StageSpec
from .engine.run_settings import TrainSettings
from .engine.sharding import full_tensor
from .engine.stage_command import run_stage
from .engine.trainer import Trainer
from .moving_shapes.clips import WINDOW, check_drawn, encode_clips
from .objectives.adapters import AdapterSettings, LoraModel, layers_named, save_lora
from .objectives.base_weights import check_base, load_base
from .objectives.denoising import NoiseLevels
from .objectives.first_frame_objective import FirstFrameObjective, FirstFrameTraining
from .objectives.interpolation_objective import InterpolationObjective
from .objectives.keyframe_objective import KeyframeObjective
from .objectives.lora_samples import LoraSamples
from .objectives.lora_start import base_metadata, check_data, check_part, open_init

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "keyframe": KeyframeObjective,
    "interpolation": InterpolationObjective,
}


@dataclass(frozen=True)
class LoraStage:
    """Train adapters for one U-Net of a model and write `lora.safetensors` to the run's folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        model: "tiny" or a model folder, also of official files.
        part: "keyframe" or "interpolation", the U-Net to adapt.
        rank: of the adapters.
        targets: endings of the names of the layers that get one, instead of those that `layers` names.
        clips: latents made by training.latents with the model's autoencoder, with what is to be learned.
        shape: instead, draw clips of this shape of Moving Shapes: ring and hexagon are unknown to the bundled model.
        count: how many of them.
        high_share: share of the noise levels drawn from the upper half.
        data: instead, folders made by training.prepare with the model, of videos with what is to be learned.
        alpha: the adapters count alpha / rank times; None: once.
        dropout: share of a layer's inputs that its adapter does not see in a step.
        layers: "all" (attention and convolutions), "attention", or "temporal": what mixes frames alone.
        base: how the frozen U-Net is kept: "fp32", "bf16", "8bit" or "4bit" (which need bitsandbytes).
        keyframe_step: with `data`, how many frames keyframes are apart; less for short videos, which then seem slower.
        init: a LoRA file of the same base and rank to go on from.
        sample_prompt: what sample videos show; a caption of `data` needs no text encoder. None: the first one.
        motion: of a keyframe U-Net that continues a first frame (1.1), how much motion the clips are said to show: low,
            medium, high, extreme, or a score from 0 to 1000. None: medium, as videos are made by default.
        noise_augmentation: likewise, most steps of noise on the first frames; None: 20, as videos are made by default.
        still_weight: likewise, how often the loss of stills counts, which are the first frames of videos from text
            alone; None: once. 0 trains none, nor do layers that only mix frames.
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
    alpha: float | None = None
    dropout: float = 0.0
    layers: str = "all"
    base: str = "fp32"
    keyframe_step: int = KEYFRAME_STEP
    init: Path | None = None
    sample_prompt: str | None = None
    motion: str | None = None
    noise_augmentation: int | None = None
    still_weight: float | None = None

    def run(self) -> None:
        """Train the adapters. Raises ValueError for settings and data that do not fit, before weights load."""
        if self.part not in OBJECTIVES:
            raise ValueError(f"part must be one of {', '.join(OBJECTIVES)}; got {self.part!r}")
        adapters, kind = AdapterSettings(self.rank, self.alpha, self.dropout), check_base(self.base)
        self._check_choices()
        model = open_model(self.model)
        check_part(model.config, self.part)
        first = self._first_frames(model.config)
        draws, num_frames = drawn_by(model.config, self.part)
        init = open_init(self.init, model, self.part, self.rank) if self.init else None
        source = self._source(model, draws, num_frames)
        sizes = pixel_sizes(source, model.config)
        check_here(self.plan(model.config, max(sizes, key=lambda size: size[0] * size[1])))
        sampled = self.train.sample_every > 0
        samples = LoraSamples(model, self.part, source, self.sample_prompt, first) if sampled else None
        torch.manual_seed(self.train.seed)  # of the adapters
        unet = load_base(model.components[self.part], kind, compute_device())
        adapted = LoraModel(unet, adapters, layers_named(unet, self.layers, self.targets))
        if init is not None:
            adapted.load(under_our_names(matrices(model.config, self.part), init.tensors(init.entries)))
        metadata = base_metadata(model, self.part) | self._metadata(sizes, num_frames, first)
        objective = self._objective(model.config, source, first)
        spec = self._spec(model.config, adapted, num_frames, None if samples is None else samples.sampler(sizes[0]))
        trainer = Trainer(self.train, adapted, objective, spec)
        trainer.run()
        self._export(trainer, adapted, metadata)

    def _check_choices(self) -> None:
        given = (self.data or [], self.clips or [], self.shape)
        if [bool(choice) for choice in given].count(True) != 1:
            raise ValueError(
                f"one of data, clips and shape must say what to learn; got data {given[0]}, clips {given[1]} and "
                f"shape {self.shape!r}"
            )
        check_drawn(self.count, self.train.seed)
        if self.keyframe_step < 1:
            raise ValueError(f"keyframe_step must be at least 1; got {self.keyframe_step}")

    def _source(self, model: StoredModel, draws: str, num_frames: int) -> Source:
        """Prepared folders, which need no other network, clips of training.latents, or fresh ones of one shape."""
        if self.data:
            prepared = PreparedSource(self.data, self.keyframe_step)
            check_data(self.data, prepared.clips, model, self.part)
            getattr(prepared, draws)(np.random.default_rng(0), 1, num_frames)  # says what does not fit
            return prepared
        encoder = model.components["text_encoder"].load()
        if self.clips:
            return open_source(None, self.clips, encoder, draws, num_frames)
        movq, size, seed = model.components["movq"].load(), model.config.size[0], self.train.seed
        return ShapesSource(encode_clips(movq, draws, self.count, seed, None, size, shape=self.shape), encoder)

    def _first_frames(self, config: ModelConfig) -> FirstFrameTraining | None:
        """How keyframes that continue a first frame train; None for a U-Net that takes none."""
        names = ("motion", "noise_augmentation", "still_weight")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.part == "keyframe" and config.keyframe.image_input:
            still = {"still_weight": 0.0} if self.layers == "temporal" else {}  # a still passes no temporal layer
            return FirstFrameTraining(**given | still)
        for name, value in given.items():
            raise ValueError(
                f"{name} must be left out for a U-Net that continues no first frame, as {config.name}'s {self.part}; "
                f"got {value!r}"
            )
        return None

    def plan(self, config: ModelConfig, size: tuple[int, int] | None = None) -> PlannedStage:
        """What the stage takes on clips of `size` (height, width) in pixels; None: the model's."""
        targets, first = None if self.targets is None else tuple(self.targets), self._first_frames(config)
        adapters = AdapterSettings(self.rank, self.alpha, self.dropout)
        stills = first is not None and first.still_weight > 0
        return LoraPlan(self.part, adapters, self.layers, targets, self.base, size, stills).stage(config, self.train)

    def _objective(self, config: ModelConfig, source: Source, first: FirstFrameTraining | None) -> Objective:
        batch_size, levels = self.train.batch_size, NoiseLevels(self.high_share)
        if first is not None:
            return FirstFrameObjective(config, source, batch_size, levels, first=first)
        return OBJECTIVES[self.part](config, source, batch_size, levels)

    def _spec(self, config: ModelConfig, adapted: LoraModel, num_frames: int, sample: Sampler | None) -> StageSpec:
        architecture = {self.part: getattr(config, self.part), "rank": self.rank, "targets": adapted.names}
        if self.alpha is not None:
            architecture["alpha"] = self.alpha
        if self.base != "fp32":
            architecture["base"] = self.base
        return StageSpec(f"lora {self.part}", frames=num_frames, architecture=architecture, sample=sample)

    def _metadata(
        self, sizes: list[tuple[int, int]], num_frames: int, first: FirstFrameTraining | None
    ) -> dict[str, str]:
        """What the file says of its training."""
        said = {
            "rank": str(self.rank),
            "alpha": str(self.rank if self.alpha is None else self.alpha),
            "dropout": str(self.dropout),
            "layers": self.layers if self.targets is None else ", ".join(self.targets),
            "base": self.base,
            "sizes": ", ".join(f"{height}x{width}" for height, width in sizes),
            "frames": str(num_frames),
            "steps": str(self.train.steps),
        }
        if first is not None:
            said |= {name: str(value) for name, value in asdict(first).items()}
        return said

    def _export(self, trainer: Trainer, adapted: LoraModel, metadata: dict[str, str]) -> None:
        tensors = {name: full_tensor(value) for name, value in adapted.tensors().items()}
        if trainer.accelerator.is_main_process:
            path = self.train.output / "lora.safetensors"
            with full_disk_says(f"no space left for {path}; the last checkpoint is intact"):
                save_lora(tensors, path, metadata)


def drawn_by(config: ModelConfig, part: str) -> tuple[str, int]:
    """What a U-Net trains on, by its name in `Source`, and how many frames of it."""
    return ("keyframes", config.num_frames) if part == "keyframe" else ("windows", WINDOW)


def pixel_sizes(source: Source, config: ModelConfig) -> list[tuple[int, int]]:
    """Heights and widths of the videos in a source, in pixels."""
    if not isinstance(source, PreparedSource):
        return [config.size]
    factor = spatial_factor(config.movq)
    return [(height * factor, width * factor) for _, height, width in source.clips.latent_sizes()]


if __name__ == "__main__":
    run_stage(LoraStage)

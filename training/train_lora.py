"""LoRA for artists: low-rank adapters of a keyframe or interpolation U-Net, for ComfyUI's stock LoRA loader.

`python -m training.train_lora --config training/configs/tiny_lora_ring.yaml` teaches FusionFrames Tiny rings, which it
never saw; the file goes into ComfyUI/models/loras and into LoraLoaderModelOnly.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.component import ModelParts
from fusionframes_core.checkpoints.lora import UNETS
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.unet.interpolation_unet import GROUP_BASES, InterpolationCondition, split_groups
from fusionframes_core.models.unet.keyframe_unet import frame_positions
from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.sampling.schedule import NoiseSchedule

from .data.sources import ShapesSource, Source, open_source
from .engine.durable_files import full_disk_says
from .engine.figures import Figures
from .engine.run_settings import TrainSettings
from .engine.sharding import whole
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .moving_shapes.clips import WINDOW, encode_clips
from .objectives.adapters import LoraModel, save_lora
from .objectives.denoising import NoiseLevels, denoising_loss

TARGETS = ("to_query", "to_key", "to_value", "output_layer", "projection")


def lora_source(
    parts: ModelParts, part: str, data: list[Path], clips: list[Path], shape: str | None, count: int, seed: int
) -> Source:
    """Prepared folders, clips of training.latents, or `count` fresh ones of one shape, with what `part` draws of them.

    Raises ValueError unless exactly one of the three is asked for, and can be drawn from.
    """
    if [bool(data), bool(clips), bool(shape)].count(True) != 1:
        raise ValueError(
            f"one of data, clips and shape must say what to learn; got data {data}, clips {clips} and shape {shape!r}"
        )
    draws, num_frames = drawn_by(parts.config, part)
    if not shape:
        return open_source(data, clips, parts.text_encoder, draws, num_frames)
    fresh = encode_clips(parts.movq, draws, count, seed, None, parts.config.size[0], shape=shape)
    return ShapesSource(fresh, parts.text_encoder)


def drawn_by(config: ModelConfig, part: str) -> tuple[str, int]:
    """What a U-Net trains on, by its name in `Source`, and how many frames of it."""
    return ("keyframes", config.num_frames) if part == "keyframe" else ("windows", WINDOW)


def keyframe_task(parts: ModelParts, source: Source, count: int, high_share: float) -> tuple:
    """Batches and loss as `train_keyframes` has them."""
    config = parts.config
    schedule, levels = NoiseSchedule.from_config(config.keyframe_schedule), NoiseLevels(high_share)
    positions = frame_positions(config.frame_positions, config.num_frames)

    def make_batch(rng: np.random.Generator) -> Batch:
        drawn = source.keyframes(rng, count, config.num_frames)
        t = levels.draw(rng, count, schedule.num_steps)
        return {"latents": drawn.latents, "t": t, "text": drawn.text(rng)}

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        x0, text = batch["latents"], batch["text"]
        condition = KeyframeCondition(text.context, text.mask, positions.to(x0.device).expand(len(x0), -1))
        kind = config.keyframe_schedule.prediction
        return denoising_loss(lambda x, t: model(x, t, condition), x0, batch["t"], schedule, kind, 0.1)

    return make_batch, loss


def interpolation_task(parts: ModelParts, source: Source, count: int, high_share: float) -> tuple:
    """Batches and loss as `train_interp` has them, keyframes unperturbed."""
    config = parts.config
    schedule, levels = NoiseSchedule.from_config(config.interpolation_schedule), NoiseLevels(high_share)
    null = source.null_context()
    subtract = GROUP_BASES[config.interpolation.base]

    def make_batch(rng: np.random.Generator) -> Batch:
        drawn = source.windows(rng, count, WINDOW)
        t = levels.draw(rng, count, schedule.num_steps)
        return {"video": drawn.latents, "skip_frames": drawn.skip_frames, "t": t}

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        keyframes, groups = split_groups(batch["video"])
        context = null.context.to(groups.device).expand(count, -1, -1)
        mask = null.mask.to(groups.device).expand(count, -1)
        skip, seen = batch["skip_frames"], torch.ones(count, dtype=torch.bool, device=groups.device)
        condition = InterpolationCondition(keyframes, context, mask, skip, torch.zeros_like(skip).float(), seen)
        kind, x0 = config.interpolation_schedule.prediction, groups - subtract(keyframes)
        return denoising_loss(lambda x, t: model(x, t, condition), x0, batch["t"], schedule, kind, 0.1)

    return make_batch, loss


TASKS = {"keyframe": keyframe_task, "interpolation": interpolation_task}


def train(
    train: TrainSettings,
    model: str = "tiny",
    part: str = "keyframe",
    rank: int = 8,
    targets: list[str] | None = None,
    clips: list[Path] | None = None,
    shape: str | None = None,
    count: int = 200,
    high_share: float = 0.5,
    data: list[Path] | None = None,
) -> None:
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
    if part not in UNETS:
        raise ValueError(f"part must be one of {', '.join(UNETS)}; got {part!r}")
    if rank < 1:
        raise ValueError(f"rank must be at least 1; got {rank}")
    parts = open_model(model).load()
    torch.manual_seed(train.seed)  # of the adapters
    adapted = LoraModel(getattr(parts, part), rank, tuple(targets or TARGETS))
    source = lora_source(parts, part, data or [], clips or [], shape, count, train.seed)
    make_batch, loss = TASKS[part](parts, source, train.batch_size, high_share)
    frames = drawn_by(parts.config, part)[1]
    built = {part: getattr(parts.config, part), "rank": rank, "targets": adapted.names}
    trainer = Trainer(train, adapted, loss, make_batch, stage=f"lora {part}", frames=frames, architecture=built)
    trainer.run()
    tensors = {name: whole(value) for name, value in adapted.file().items()}
    if trainer.accelerator.is_main_process:
        metadata = {"fusionframes": f"lora {part}", "model": parts.config.name, "rank": str(rank)}
        path = train.output / "lora.safetensors"
        with full_disk_says(f"no space left for {path}; the last checkpoint is intact"):
            save_lora(tensors, path, metadata)


if __name__ == "__main__":
    run_command(train)

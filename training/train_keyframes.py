"""Stage 1 of the paper (section 4.1): temporal blocks over a frozen text-to-image U-Net, on 16 keyframes.

`python -m training.train_keyframes --config training/configs/tiny_keyframes.yaml`
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.state_dict import read_weights
from fusionframes_core.checkpoints.temporal_blocks import save_temporal_weights, temporal_path
from fusionframes_core.config import UNetConfig
from fusionframes_core.models.temporal import initialise_temporal, temporal_parameters
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.keyframe_unet import frame_positions, freeze_spatial, inflate_keyframe
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.sampling.schedule import NoiseSchedule

from .data.sources import ShapesSource, Source, open_held_out, open_source
from .engine.figures import Figures, held_out_figures
from .engine.model_config import model_config
from .engine.run_settings import TrainSettings
from .engine.stage_command import run_command
from .engine.trainer import Batch, Trainer
from .evaluation.motion_gap import motion_gap
from .objectives.denoising import NoiseLevels, denoising_loss
from .objectives.initial_weights import load_image_part
from .objectives.sample_videos import keyframe_sampler
from .train_image import image_config, load_text_encoder

# What reads the frames is the same attention, inside the spatial one or beside it.
LAYER_ATTENTION, BLOCK_ATTENTION = "self_attention_block.temporal.", "temporal_attention_block."


def keyframe_model(preset: str, image: Path | None, init: Path | None, temporal: str | None = None) -> UNet:
    """The keyframe U-Net, all but its temporal parts frozen.

    Over the `image` weights or, without them, over those of `init`; with temporal parts that do nothing or those of
    `init`: all of them, or of another conditioning than `temporal` those that fit. Raises ValueError when neither is
    given, or nothing fits.
    """
    if image is None and init is None:
        raise ValueError("image or init must name the weights to start from; got neither")
    trained = model_config(preset).keyframe
    config = trained if temporal is None else dataclasses.replace(trained, temporal=temporal)
    model = UNet(config)
    initialise_temporal(model)
    if image is not None:
        base = UNet(image_config(config))
        load_image_part(base, image)
        model = inflate_keyframe(base, config)
    if init is not None:
        same = read_weights(init).keys() == model.state_dict().keys()
        source = UNet(config if same else trained)
        load_weights(source, init)
        temporal_names = {name for name, _ in temporal_parameters(source)}
        spatial = {name: value for name, value in source.state_dict().items() if name not in temporal_names}
        model.load_state_dict(fitting(source, model) | ({} if image else spatial), strict=False)
    freeze_spatial(model)
    return model


def fitting(source: UNet, model: UNet) -> dict[str, Tensor]:
    """Temporal parts of `source` by their names in `model`, whose conditioning may be another: those of equal shapes.

    Raises ValueError when there is none.
    """
    found = dict(temporal_parameters(source))
    places = ((name, name.replace(LAYER_ATTENTION, BLOCK_ATTENTION)) for name, _ in temporal_parameters(model))
    shapes = {name: value.shape for name, value in temporal_parameters(model)}
    kept = {name: found[old] for name, old in places if old in found and found[old].shape == shapes[name]}
    if not kept:
        raise ValueError(f"init's temporal parts, {source.config.temporal}, have nothing for {model.config.temporal}")
    return {name: value.detach() for name, value in kept.items()}


def gap_of(
    source: ShapesSource, schedule: NoiseSchedule, prediction: str, positions: Tensor
) -> Callable[[nn.Module], dict[str, float]]:
    """A function of the model: how much more the right caption helps than the opposite motion's."""

    def predict(model: nn.Module, x: Tensor, t: Tensor, text: TextContext) -> Tensor:
        return model(x, t, KeyframeCondition(text.context, text.mask, positions.expand(len(x), -1)))

    count = min(44, len(source.clips.scenes))
    latents, scenes = source.clips.latents[:count].float(), source.clips.scenes[:count]

    def gap(model: nn.Module) -> dict[str, float]:
        noise = torch.Generator().manual_seed(0)
        return motion_gap(partial(predict, model), latents, scenes, source.encoder, schedule, noise, prediction)

    return gap


def validation(
    loss: Callable[[nn.Module], tuple[Tensor, Figures]],
    gap: Callable[[nn.Module], dict[str, float]] | None,
) -> Callable[[nn.Module], dict[str, float]]:
    """A function of the model: `loss` on held-out clips and fixed noise, and the motion `gap`, if there is one."""

    def validate(model: nn.Module) -> dict[str, float]:
        torch.manual_seed(0)
        value, figures = loss(model)
        return held_out_figures(value, {**figures, **(gap(model) if gap else {})})

    return validate


def train(
    train: TrainSettings,
    clips: list[Path] | None = None,
    text_encoder: Path | None = None,
    validation_clips: list[Path] | None = None,
    data: list[Path] | None = None,
    image: Path | None = None,
    init: Path | None = None,
    preset: str = "tiny",
    high_share: float = 0.65,
    least_weight: float = 0.1,
    movq: Path | None = None,
    sample_prompt: str = "a large red circle moving right",
    temporal: str | None = None,
    validation_data: list[Path] | None = None,
) -> None:
    """Train the temporal blocks of `preset` and write `keyframe.safetensors` to the run's folder.

    Of another conditioning than the preset's also `temporal_<name>.safetensors`, for the model folder.

    Args:
        train: the run: output folder, steps, batch size (videos), rates.
        clips: keyframe latents of Moving Shapes, made by training.latents.
        text_encoder: folder with text_encoder.safetensors and tokenizer.json.
        validation_clips: latents of held-out combinations, to measure the averaged weights on.
        data: instead of clips, folders made by training.prepare.
        image: text-to-image weights, which stay frozen: a file of train_image, or of a keyframe U-Net.
        init: keyframe weights to start from, of `temporal` or of the preset's: what fits; with `image`, their temporal
            parts only.
        preset: model whose keyframe configuration is trained.
        high_share: share of the noise levels drawn from the upper half, where motion is decided.
        least_weight: samples are weighted by σ² but not below this; 1 weights all alike.
        movq: the preset's video autoencoder, for sample videos.
        sample_prompt: what they show.
        temporal: a temporal conditioning (section 4.1) instead of the preset's.
        validation_data: instead of validation_clips, folders made by training.prepare.
    """
    torch.manual_seed(train.seed)  # of the initial weights
    config = model_config(preset)
    model = keyframe_model(preset, image, init, temporal)
    encoder = load_text_encoder(text_encoder, preset) if text_encoder else None
    source = open_source(data, clips, encoder, "keyframes", config.num_frames)
    held_out = open_held_out(validation_data, validation_clips, encoder, "keyframes", config.num_frames)
    schedule = NoiseSchedule.from_config(config.keyframe_schedule)
    prediction, levels = config.keyframe_schedule.prediction, NoiseLevels(high_share)
    positions = frame_positions(config.frame_positions, config.num_frames)

    def make_batch(rng: np.random.Generator, source: Source = source, count: int = train.batch_size) -> Batch:
        drawn = source.keyframes(rng, count, config.num_frames)
        t = levels.draw(rng, count, schedule.num_steps)
        return {"latents": drawn.latents, "t": t, "text": drawn.text(rng)}

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, Figures]:
        count = len(batch["latents"])
        places = positions.to(batch["latents"].device).expand(count, -1)
        condition = KeyframeCondition(batch["text"].context, batch["text"].mask, places)
        return denoising_loss(
            lambda x, t: model(x, t, condition), batch["latents"], batch["t"], schedule, prediction, least_weight
        )

    def held_out_loss(model: nn.Module) -> tuple[Tensor, Figures]:
        return loss(model, make_batch(np.random.default_rng(1), held_out, 32))

    gap = None
    if isinstance(held_out, ShapesSource):  # whose captions are known, and what is their opposite
        gap = gap_of(held_out, schedule, prediction, positions)
    validate = validation(held_out_loss, gap) if held_out is not None else None
    if train.sample_every and encoder is None:
        raise ValueError("sample_every needs text_encoder, the folder with text_encoder.safetensors; got none")
    sample = None
    if train.sample_every:
        sample = keyframe_sampler(config, encoder, positions, sample_prompt, movq)
    frames = config.num_frames
    built = {"keyframe": model.config, "keyframe_schedule": config.keyframe_schedule}
    trainer = Trainer(
        train, model, loss, make_batch, validate, stage="keyframes", sample=sample, frames=frames, architecture=built
    )
    trainer.run()
    trainer.export("keyframe.safetensors", metadata={"temporal": model.config.temporal})
    if model.config.temporal != config.keyframe.temporal and trainer.accelerator.is_main_process:
        export_temporal(model.config, train.output)


def export_temporal(config: UNetConfig, folder: Path) -> None:
    """The temporal parts of `keyframe.safetensors` alone: what a model folder holds beside its own conditioning."""
    model = UNet(config)
    load_weights(model, folder / "keyframe.safetensors")
    save_temporal_weights(model, temporal_path(folder, config.temporal))


if __name__ == "__main__":
    run_command(train)

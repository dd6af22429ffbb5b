"""The models under evaluation: a model folder, or the weight files of training runs put together.

Weights that a run has not made yet can be left out where an evaluation does not use them, and an image autoencoder
stands in for the video one (inflated: it decodes frame by frame).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionframes_core.checkpoints.component import COMPONENTS, ModelParts, build
from fusionframes_core.checkpoints.model_folder import CONFIG_FILE
from fusionframes_core.checkpoints.open_model import BUNDLED, load_config, load_weights
from fusionframes_core.checkpoints.state_dict import read_weights
from fusionframes_core.checkpoints.text_encoder_weights import TOKENIZER_FILE
from fusionframes_core.config import ModelConfig, MoVQConfig
from fusionframes_core.media.frames import to_uint8
from fusionframes_core.models.movq.movq import MoVQ, inflate_movq
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.pipeline import FusionFramesPipeline
from fusionframes_core.presets import PRESETS
from fusionframes_core.settings import GenerationSettings

from ..engine.command_line import BadInput
from .interpolation_quality import VideoTools
from .shape_accuracy import Generate


def load_pipeline(
    model: str, files: Mapping[str, Path], needed: tuple[str, ...], device: str = "cpu"
) -> FusionFramesPipeline:
    """The pipeline of `model` ("tiny" or a folder), with `files` (names of COMPONENTS → safetensors) in their places.

    `needed` names the models that the evaluation uses; without `files` the folder has to be complete. The tokenizer
    lies beside the text encoder's file. Raises ValueError in a sentence.
    """
    if not files:
        return FusionFramesPipeline.from_pretrained(model, device=device)
    folder = BUNDLED.get(model, Path(model))
    config = _config(model, folder)
    paths = {name: Path(files.get(name, folder / f"{name}.safetensors")) for name in COMPONENTS}
    tokenizer_file = paths["text_encoder"].parent / TOKENIZER_FILE
    tokenizer = load_tokenizer(tokenizer_file) if "text_encoder" in needed else None
    parts = ModelParts(
        config=config,
        text_encoder=TextEncoder(config.text, tokenizer),
        keyframe=build(config.keyframe),
        interpolation=build(config.interpolation),
        movq=load_movq(paths["movq"], config.movq) if "movq" in needed else build(config.movq),
    )
    for name in needed:
        if name != "movq":
            load_weights(getattr(parts, name), paths[name])
    for name in COMPONENTS:
        getattr(parts, name).eval().requires_grad_(False)
    return FusionFramesPipeline(parts).to(device)


def _config(model: str, folder: Path) -> ModelConfig:
    if (folder / CONFIG_FILE).is_file():
        return load_config(folder)
    if model in PRESETS:
        return PRESETS[model]
    raise BadInput(f"--model must be one of {', '.join(PRESETS)} or a folder with a {CONFIG_FILE}; got {model!r}")


def load_movq(path: Path, config: MoVQConfig) -> MoVQ:
    """The autoencoder of `config` from its own weights, or inflated from an image autoencoder's."""
    movq: MoVQ = build(config)
    image: MoVQ = build(dataclasses.replace(config, decoder="image"))
    if read_weights(path).keys() == image.state_dict().keys():
        load_weights(image, path)
        return inflate_movq(image, config, torch.Generator().manual_seed(0))
    load_weights(movq, path)
    return movq


def load_image_decoder(path: Path, config: MoVQConfig) -> MoVQ:
    """The image autoencoder that a video autoencoder was trained from."""
    movq: MoVQ = build(dataclasses.replace(config, decoder="image"))
    load_weights(movq, path)
    return movq.eval().requires_grad_(False)


def generator_of(pipeline: FusionFramesPipeline, settings: GenerationSettings) -> Generate:
    """Prompts → videos with `settings`; their seed is given with the prompts."""

    def generate(prompts: list[str], seed: int) -> NDArray[np.uint8]:
        frames = pipeline(prompts, dataclasses.replace(settings, seed=seed)).frames
        return np.stack([to_uint8(video) for video in frames])

    return generate


def tools_of(pipeline: FusionFramesPipeline, settings: GenerationSettings | None = None) -> VideoTools:
    """The pipeline's encoder, decoder and interpolation: its weight, steps and sampler are those of `settings`."""
    chosen = settings or GenerationSettings()

    def interpolate(latents: Tensor, skip_frames: int, seed: int) -> Tensor:
        return pipeline.interpolate(
            latents,
            skip_frames=skip_frames,
            guidance=chosen.interpolation_guidance,
            steps=chosen.interpolation_steps,
            sampler=chosen.sampler,
            seed=seed,
        )

    return VideoTools(pipeline.encode, pipeline.decode, interpolate, pipeline.config.size[0])

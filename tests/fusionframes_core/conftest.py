"""A whole model of the smallest size, with random weights, and its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fusionframes_core.checkpoints.component import ModelParts, build
from fusionframes_core.checkpoints.convert import save_official_folder
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.presets import TINY
from tests.helpers.official_cases import VERSIONS, small_parts
from training.moving_shapes.shapes_tokenizer import build_tokenizer

SMALL_UNET = {"model_channels": 16, "init_channels": 16, "time_embed_dim": 32, "context_dim": 24}
SMALL_UNET |= {"groups": 8, "head_dim": 8}


@pytest.fixture(scope="session")
def micro_config() -> ModelConfig:
    """The tiny preset's choices at the smallest sizes: factor 4, latents (4, 4, 4), 4 keyframes."""
    replace = dataclasses.replace
    return replace(
        TINY,
        name="micro",
        text=replace(TINY.text, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, context_dim=24),
        keyframe=replace(TINY.keyframe, **SMALL_UNET),
        keyframe_schedule=replace(TINY.keyframe_schedule, steps=3),
        interpolation=replace(TINY.interpolation, trunk=replace(TINY.interpolation.trunk, **SMALL_UNET)),
        interpolation_schedule=replace(TINY.interpolation_schedule, steps=2),
        movq=replace(TINY.movq, channels=8, channel_mult=(1, 2), patch_size=2, attention_levels=(1,), groups=4),
        num_frames=4,
        size=(16, 16),
    )


@pytest.fixture(scope="session")
def micro_folder(micro_config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random float32 weights."""
    folder = tmp_path_factory.mktemp("models") / "micro"
    folder.mkdir()
    tokenizer = folder / "tokenizer.json"
    build_tokenizer().save(str(tokenizer))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = ModelParts(
            config=micro_config,
            text_encoder=TextEncoder(micro_config.text, load_tokenizer(tokenizer)),
            keyframe=_random(build(micro_config.keyframe)),
            interpolation=_random(build(micro_config.interpolation)),
            movq=_random(build(micro_config.movq)),
        )
    save_model_folder(parts, folder, dtype=torch.float32)
    return folder


@pytest.fixture(scope="session")
def tokenizer(micro_folder: Path) -> Any:
    """The tiny model's tokenizer."""
    return load_tokenizer(micro_folder)


@pytest.fixture(scope="session")
def official(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ModelParts, Path]]:
    """A small model of each official version in memory, and its folder of files as upstream publishes them."""
    made = {}
    for version in VERSIONS:
        folder = tmp_path_factory.mktemp("official") / version
        parts = small_parts(version, tokenizer)
        save_official_folder(parts, folder)
        (folder / "configs.json").unlink()  # our own section: upstream has none
        made[version] = (parts, folder)
    return made


@torch.no_grad()
def _random(model: nn.Module) -> nn.Module:
    """No part of the model is silent (merge weights start at zero), and none so loud that rounding grows to chaos."""
    for name, parameter in model.named_parameters():
        if parameter.numel() == 1:
            parameter.fill_(0.3)
        if "modulation" in name or "out_layer" in name:
            parameter.mul_(0.3)
    return model

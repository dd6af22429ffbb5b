"""Small models with random weights in the official layout, as ComfyUI's folders would hold the real ones."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from fusionframes_core.checkpoints.component import ModelParts, build
from fusionframes_core.checkpoints.convert import save_official_folder
from fusionframes_core.checkpoints.text_encoder_weights import read_tokenizer
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.unet.unet_layers import ConditionalGroupNorm
from tests.helpers.official_cases import random_model, small_official

TOKENIZER = Path(__file__).resolve().parents[2] / "fusionframes_core" / "tiny" / "tokenizer.json"
MOVQ = {"channels": 32, "channel_mult": (1, 1, 1, 2), "num_res_blocks": 1, "attention_levels": (3,)}
FOLDERS = {"1.0": "kandinsky-1.0", "1.1": "kandinsky-1.1"}


def small_model(version: str) -> ModelConfig:
    """The smallest model of a version whose latents are eight times smaller than its pixels."""
    config = small_official(version)
    image = None if config.image_movq is None else replace(config.image_movq, **MOVQ)
    return replace(config, movq=replace(config.movq, **MOVQ), image_movq=image)


def install(version: str, models: Path) -> Path:
    """Put one into `models` (ComfyUI's): the U-Nets into diffusion_models, the text encoder into text_encoders, the
    autoencoders into vae. Returns a folder that holds all of it, for core."""
    whole = models.parent / f"official-{version}"
    torch.manual_seed(5)
    config = small_model(version)
    text = random_model(TextEncoder(config.text, read_tokenizer(TOKENIZER)))  # first: the same T5 for every version
    names = [name for name in ("keyframe", "interpolation", "movq", "image_movq") if getattr(config, name) is not None]
    parts = {name: tamed(random_model(build(getattr(config, name)))) for name in names}
    save_official_folder(ModelParts(config, text_encoder=text, **parts), whole)
    target = models / "diffusion_models" / FOLDERS[version]
    shutil.copytree(whole, target, ignore=shutil.ignore_patterns("text_encoder"))
    shutil.copytree(whole / "text_encoder", models / "text_encoders" / "flan-ul2", dirs_exist_ok=True)
    for file in whole.glob("*movq.pt"):
        place = models / "vae" / FOLDERS[version]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    for file in whole.glob("t5_projections.pt"):
        place = models / "text_encoders" / FOLDERS[version]
        place.mkdir(exist_ok=True)
        shutil.copy(file, place)
    return whole


def uninstall(version: str, models: Path) -> None:
    """Take one away again, and the text encoder with it."""
    for name in (FOLDERS[version], "flan-ul2"):
        for place in models.glob(f"*/{name}"):
            shutil.rmtree(place)


@torch.no_grad()
def tamed(model: nn.Module) -> nn.Module:
    """Weights without the chaos of random ones, where a change of 1e-6 in the prompt becomes another video."""
    for module in model.modules():
        if isinstance(module, ConditionalGroupNorm):
            module.modulation.weight.mul_(0.1)
    last = getattr(model, "out_layer", None)
    if last is not None:
        last[2].weight.mul_(0.05)
    return model

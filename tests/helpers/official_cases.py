"""A small model of each official version, with random weights: the official choices at the smallest sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fusionframes_core.checkpoints.component import ModelParts, build
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1

VERSIONS = ("1.0", "1.1")
PRESETS = {"1.0": KANDINSKY_VIDEO_1_0, "1.1": KANDINSKY_VIDEO_1_1}
UNET = {"model_channels": 64, "init_channels": 64, "time_embed_dim": 64, "context_dim": 64}
UNET |= {"channel_mult": (1, 2), "num_blocks": (2, 2)}
UNET |= {"cross_attention": (False, True), "self_attention": (False, True)}
MOVQ = {"channels": 32, "channel_mult": (1, 2), "num_res_blocks": 1, "attention_levels": (1,)}


def small_official(version: str) -> ModelConfig:
    """What the conversion reads off a small checkpoint: head size 64 and 32 groups, all else small."""
    preset = PRESETS[version]
    text = {"vocab_size": 96, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "context_dim": 64}
    image = None if preset.image_movq is None else replace(preset.image_movq, **MOVQ)
    return replace(
        preset,
        text=replace(preset.text, **text),
        keyframe=replace(preset.keyframe, **UNET),
        interpolation=replace(preset.interpolation, trunk=replace(preset.interpolation.trunk, **UNET)),
        movq=replace(preset.movq, **MOVQ),
        image_movq=image,
    )


def small_parts(version: str, tokenizer: Any, seed: int = 0) -> ModelParts:
    """The models of `small_official`, every parameter random."""
    torch.manual_seed(seed)
    config = small_official(version)
    names = ("keyframe", "interpolation", "movq") if config.image_movq is None else (
        "keyframe", "interpolation", "movq", "image_movq")  # fmt: skip
    models = {name: random_model(build(getattr(config, name))) for name in names}
    return ModelParts(config, text_encoder=random_model(TextEncoder(config.text, tokenizer)), **models)


@torch.no_grad()
def random_model(model: Any) -> Any:
    """Merge weights and null embeddings too are not what they start as."""
    for parameter in model.parameters():
        if parameter.numel() == 1:
            parameter.fill_(0.3)
    return model.eval().requires_grad_(False)


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)

"""Weights that a stage starts from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from fusionframes_core.checkpoints.open_model import load_weights
from fusionframes_core.checkpoints.state_dict import read_weights
from fusionframes_core.config import TextEncoderConfig, UNetConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer


def image_config(config: UNetConfig) -> UNetConfig:
    """The text-to-image trunk of a keyframe U-Net."""
    return dataclasses.replace(config, temporal="none")


def load_image_part(model: nn.Module, path: Path) -> None:
    """Load an image model from its own file or from that of a video model which was made from it.

    The temporal parts of such a file are left out: of a keyframe U-Net's for the text-to-image U-Net, of a video
    autoencoder's for the image one. Raises CheckpointError where anything else is missing or of another shape.
    """
    weights = read_weights(path)
    expected = model.state_dict()
    fits = all(name in weights and weights[name].shape == value.shape for name, value in expected.items())
    if fits:
        model.load_state_dict({name: weights[name] for name in expected})
    else:
        load_weights(model, path)  # which says what is missing


def load_text_encoder(folder: Path, config: TextEncoderConfig) -> TextEncoder:
    """The frozen text encoder of a run's folder, with its tokenizer."""
    encoder = TextEncoder(config, load_tokenizer(folder))
    load_weights(encoder, Path(folder) / "text_encoder.safetensors")
    return encoder.eval().requires_grad_(False)

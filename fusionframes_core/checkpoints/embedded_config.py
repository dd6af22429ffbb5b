"""A model's configuration as a tensor, for files that a host writes: its saving nodes take tensors, but no metadata."""

from __future__ import annotations

import json

import numpy as np
import torch
from torch import Tensor

from ..config import ModelConfig, to_dict

CONFIG_TENSOR = "fusionframes.config"
MODEL_CONFIG = "model_config"  # its key in the metadata of an opened file


def config_tensor(config: ModelConfig) -> Tensor:
    """The configuration's JSON as bytes (N,), uint8."""
    return text_tensor(json.dumps(to_dict(config)))


def text_tensor(text: str) -> Tensor:
    """A text's bytes (N,), uint8."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def config_text(stored: Tensor) -> str:
    """The JSON of `config_tensor`."""
    return np.asarray(stored).tobytes().decode()

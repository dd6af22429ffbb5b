"""Reading and writing weights and model folders.

Models are built first and loaded then: `build(config)`, `load_weights(model, path)`. A model folder holds
`config.json`, `tokenizer.json` and one safetensors file for each model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config import ModelConfig, from_dict, to_dict
from ..errors import CheckpointError
from ..files import atomic_path
from ..models.casting import operations_for
from ..models.movq.movq import MoVQ
from ..models.text_encoder import TextEncoder
from ..models.tokenizer import load_tokenizer
from ..models.unet.interpolation_unet import InterpolationUNet
from ..models.unet.unet import UNet
from .component import build, part_dtype
from .state_dict import load_weights, save_weights

BUNDLED = {"tiny": Path(__file__).parents[1] / "tiny"}
CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
MODEL_FILES = ("text_encoder", "keyframe", "interpolation", "movq")


@dataclass(frozen=True)
class ModelParts:
    """The four models of a folder, in evaluation mode, and their config."""

    config: ModelConfig
    text_encoder: TextEncoder
    keyframe: UNet
    interpolation: InterpolationUNet
    movq: MoVQ
    image_movq: MoVQ | None = None  # 1.1: of the first image; None: the video's


def model_folder(name_or_folder: str | Path) -> Path:
    """The folder of a bundled model or of a path. Raises CheckpointError unless it holds a config.json."""
    folder = BUNDLED.get(str(name_or_folder), Path(name_or_folder))
    if not (folder / CONFIG_FILE).is_file():
        names = " or ".join(repr(name) for name in BUNDLED)
        raise CheckpointError(f"model must be {names} or a folder with a {CONFIG_FILE}; got {str(name_or_folder)!r}")
    return folder


def load_config(folder: Path) -> ModelConfig:
    """The ModelConfig of a model folder. Raises CheckpointError when its config.json is none."""
    path = folder / CONFIG_FILE
    try:
        return from_dict(ModelConfig, json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not the configuration of a model: {error}") from error


def load_model_folder(
    name_or_folder: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> ModelParts:
    """Load "tiny" or a model folder. Raises CheckpointError that names the file that is missing or does not fit."""
    folder = model_folder(name_or_folder)
    config = load_config(folder)
    parts = {name: load_part(folder, config, name, dtype, device) for name in part_names(config)}
    return ModelParts(config=config, **parts)


def load_part(folder: Path, config: ModelConfig, name: str, dtype: torch.dtype, device: torch.device | str) -> Any:
    """One of `part_names`, in evaluation mode."""
    kept = part_dtype(name, dtype)
    if name == "text_encoder":
        model: Any = TextEncoder(config.text, read_tokenizer(folder / TOKENIZER_FILE), device="meta")
    else:
        model = build(getattr(config, name), device="meta", operations=operations_for(kept))
    load_weights(model, folder / f"{name}.safetensors", device, kept)
    return model.eval().requires_grad_(False)


def read_tokenizer(path: Path) -> Any:
    """The tokenizer. Raises CheckpointError when it is missing or none."""
    try:
        return load_tokenizer(path)
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(str(error)) from error


def part_names(config: ModelConfig) -> tuple[str, ...]:
    """The models of a folder: MODEL_FILES, and the image autoencoder where the config has one."""
    return MODEL_FILES if config.image_movq is None else (*MODEL_FILES, "image_movq")


def save_model_folder(parts: ModelParts, folder: str | Path, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a folder that `load_model_folder` reads; the config is written last, so that a half-written one is none."""
    folder = Path(folder)
    for name in part_names(parts.config):
        metadata = {"fusionframes": name, "model": parts.config.name}
        save_weights(getattr(parts, name).state_dict(), folder / f"{name}.safetensors", dtype, metadata)
    with atomic_path(folder / TOKENIZER_FILE) as partial:
        tokenizer: Any = parts.text_encoder.tokenizer
        tokenizer.backend_tokenizer.save(str(partial))
    with atomic_path(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(to_dict(parts.config), indent=2) + "\n", "utf-8")

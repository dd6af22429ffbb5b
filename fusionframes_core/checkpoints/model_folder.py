"""Model folders of ours: `config.json`, `tokenizer.json` and one safetensors file for each component."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ..config import ModelConfig, from_dict, to_dict
from ..errors import one_sentence
from ..files import atomic_path
from .checkpoint_info import identify
from .component import KINDS, Component, ComponentKind, ModelParts, StoredModel, component_names
from .state_dict import save_weights
from .weights_file import WeightsFile, open_weights

CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"


def load_config(folder: Path) -> ModelConfig:
    """The ModelConfig of a model folder. Raises CheckpointError when its config.json is none."""
    path = folder / CONFIG_FILE
    with one_sentence(f"{path} is not the configuration of a model"):
        return from_dict(ModelConfig, json.loads(path.read_text("utf-8")))


def open_model_folder(folder: Path, only: Collection[str] | None = None) -> StoredModel:
    """Look at the files of a model folder, or of its components `only`.

    Raises CheckpointError that names the file that is missing or wrong.
    """
    config = load_config(folder)
    names = [name for name in component_names(config) if only is None or name in only]
    return StoredModel(config, {name: own_component(folder, config, KINDS[name]) for name in names})


def own_component(folder: Path, config: ModelConfig, kind: ComponentKind, file: WeightsFile | None = None) -> Component:
    """A component of a model folder, in the file of its name or in `file`. Raises CheckpointError."""
    file = file or open_weights(folder / kind.file_name)
    has_text = kind.null_embeddings and (folder / KINDS["text_encoder"].file_name).is_file()
    text = open_weights(folder / KINDS["text_encoder"].file_name) if has_text else None
    return Component(
        kind,
        config,
        [(file, identify(file.shapes).names)],
        folder,
        text=[(text, {name: name for name in text.entries})] if text else (),
        tokenizer=folder / TOKENIZER_FILE if kind.name == "text_encoder" else None,
    )


def save_model_folder(parts: ModelParts, folder: str | Path, dtype: torch.dtype | None = torch.float16) -> None:
    """Write a folder that `open_model` reads; the config is written last, so that a half-written one is none."""
    folder = Path(folder)
    for name in component_names(parts.config):
        metadata = {"fusionframes": name, "model": parts.config.name}
        save_weights(getattr(parts, name).state_dict(), folder / KINDS[name].file_name, dtype, metadata)
    with atomic_path(folder / TOKENIZER_FILE) as partial:
        tokenizer: Any = parts.text_encoder.tokenizer
        tokenizer.backend_tokenizer.save(str(partial))
    with atomic_path(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(to_dict(parts.config), indent=2) + "\n", "utf-8")

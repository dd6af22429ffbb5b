"""Model folders of ours: `config.json`, `tokenizer.json` and one safetensors file for each component."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..config import to_dict
from ..files import atomic_path
from .component import KINDS, ModelParts, component_names
from .state_dict import save_weights
from .text_encoder_weights import TOKENIZER_FILE

CONFIG_FILE = "config.json"


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

"""ComfyUI's own loaders, given one of our files: ours stands in for them, because they know no FusionFrames model."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ....fusionframes_core.checkpoints.open_model import open_component
from ....fusionframes_core.errors import CheckpointError
from .model_files import AUTO, movq_file, unet_file

FP8_TYPES = "fp8"  # beginning of ComfyUI's names of 8-bit types, and our name of ours


@dataclass(frozen=True)
class StandIn:
    """What loads a file that a stock loader cannot: the input that names it there, here, and where it lies."""

    stock_input: str
    node: str
    input: str
    title: str
    file: Callable[[str], Path]


LOADERS = {
    "UNETLoader": StandIn("unet_name", "FusionFrames_LoadUNet", "unet_name", "FusionFrames Load U-Net", unet_file),
    "VAELoader": StandIn("vae_name", "FusionFrames_LoadMoVQ", "movq_name", "FusionFrames Load VAE", movq_file),
}
"""ComfyUI's loaders → ours."""


def watch_stock_loaders() -> None:
    """Look through every prompt that this process's server, if it has one, is given from now on."""
    server = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is not None:  # PromptServer.add_on_prompt_handler: checked on 0.18.1 and 0.27.0
        server.add_on_prompt_handler(with_our_loaders)


def with_our_loaders(request: dict[str, Any]) -> dict[str, Any]:
    """A request to run a prompt, in which our loaders load our files; each is said in the log."""
    prompt: Any = request.get("prompt")
    for key, node in prompt.items() if isinstance(prompt, dict) else ():
        known = LOADERS.get(node.get("class_type", "")) if isinstance(node, dict) else None
        name = node.get("inputs", {}).get(known.stock_input) if known else None
        if known and isinstance(name, str) and _is_ours(known, name):
            kind = str(node["inputs"].get("weight_dtype", ""))
            precision = FP8_TYPES if kind.startswith(FP8_TYPES) else AUTO
            inputs = {known.input: name, "precision": precision}
            logging.warning("FusionFrames: %s is loaded by %s; use that node for it", name, known.title)
            prompt[key] = {**node, "class_type": known.node, "inputs": inputs}
    return request


def _is_ours(known: StandIn, name: str) -> bool:
    """Whether the file is a U-Net or MoVQ of ours. A file that is not there is left to the stock loader to name."""
    try:
        file = known.file(name)
        return _holds_ours(file, file.stat().st_mtime_ns)
    except (ValueError, OSError):
        return False


@lru_cache(maxsize=256)
def _holds_ours(file: Path, changed: int) -> bool:
    """The same by path and time of change, since a prompt is run many times."""
    try:
        open_component(file)
    except (CheckpointError, OSError):
        return False
    return True

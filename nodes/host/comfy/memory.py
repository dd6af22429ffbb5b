"""A sentence before work that cannot fit into memory, in the log and on the node, with what to change."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import comfy.model_management as management
import torch
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ....fusionframes_core.models.free_memory import available_bytes

_SHARED = ("cpu", "mps")  # their memory is that to which models are sent away
_UNKNOWN = ("meta", "privateuseone")  # of DirectML ComfyUI says 1 GB, whatever the card
GIGABYTE = 1e9
HOPELESS = 2.0  # times what is left: estimates are generous, and a little more may be swapped


def free_now(device: torch.device, model: Any = None) -> float:
    """Bytes that a model's work on a device can have as it is; infinite where nothing is known of the device.

    Other models' weights in ComfyUI's dynamic memory count: they give way when something is allocated.
    """
    yielding = (patcher.loaded_size() for patcher in _others(device, model) if patcher.is_dynamic())
    return _unused(device) + sum(yielding)


def available(device: torch.device, model: Any = None) -> float:
    """Bytes that work on a device can have: what is free, and what ComfyUI can make free by sending models away.

    Where they are for a `model`, its own weights stay, and those that are not there yet are to come.
    """
    found = _unused(device) + sum(patcher.loaded_size() for patcher in _others(device, model))
    if model is None or device.type in _SHARED:
        return found
    own = next((patcher for patcher in _loaded(device) if patcher.model is model), None)
    coming = sum(weight.nbytes for weight in model.parameters()) - (own.loaded_size() if own is not None else 0)
    return max(0.0, found - max(0, coming))


def _unused(device: torch.device) -> float:
    ours = available_bytes(device)
    known = math.inf if ours is None else float(ours)
    return known if device.type in _UNKNOWN else min(known, management.get_free_memory(device))


def _loaded(device: torch.device) -> list[Any]:
    patchers = [patcher for patcher in management.loaded_models() if patcher is not None]
    return [patcher for patcher in patchers if patcher.load_device == device]


def _others(device: torch.device, model: Any) -> list[Any]:
    """What can be sent away from a device to make room for a model's work."""
    if device.type in _SHARED:
        return []
    return [patcher for patcher in _loaded(device) if model is None or patcher.model is not model]


def require_room_to_sample(patcher: Any, samples: Tensor) -> None:
    """Say so when not even one prediction for latents (B, 4, T, h, w) fits; of context windows one is at work.

    Raises ValueError when it is far from fitting.
    """
    if samples.ndim != 5:
        return  # refused further on, in words of its own
    batch, channels, frames, *size = samples.shape
    window = patcher.model_options.get("context_handler")
    frames = min(frames, getattr(window, "context_length", frames))
    needed = patcher.model.memory_required([batch, channels, frames, *size])
    height, width = (side * patcher.model.pixels_per_latent for side in size)
    _compare(
        needed,
        patcher.load_device,
        f"sampling {batch * frames} frames of {width}×{height} pixels",
        "take a smaller size or fewer frames (FusionFrames Long Video samples keyframes in windows), or load the model "
        "in bf16 or fp8",
    )


def _compare(needed: float, device: Any, work: str, advice: str) -> None:
    free = available(device)
    sentence = f"{work} takes about {_gigabytes(needed)} GB beside the model, and {_gigabytes(free)} are left: {advice}"
    if needed > HOPELESS * free:
        raise ValueError(sentence)
    if needed > free:
        tell(sentence)


def _gigabytes(size: float) -> str:
    return f"{math.ceil(size / GIGABYTE * 10) / 10:.1f}"


def tell(sentence: str) -> None:
    """Warn in the log and on the node that is running."""
    logging.warning("FusionFrames: %s", sentence)
    show(sentence)


def show(words: str) -> None:
    """Write words on the node that is running, in the place of those that it showed before."""
    context = get_executing_context()
    running = sys.modules.get("server")  # PromptServer.send_progress_text: checked on 0.18.1 to 0.33.0
    server = getattr(getattr(running, "PromptServer", None), "instance", None)
    if context is not None and server is not None:
        server.send_progress_text(words, context.node_id)

"""A sentence before work that cannot fit into memory, in the log and on the node, with what to change."""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

import comfy.model_management as management
from comfy_execution.utils import get_executing_context
from torch import Tensor

GIGABYTE = 1e9
HOPELESS = 2.0  # times what is left: estimates are generous, and a little more may be swapped


def available(device: Any) -> float:
    """Bytes that work on a device can have: what is free, and what ComfyUI can make free by sending models away."""
    loaded = [patcher for patcher in management.loaded_models() if patcher.load_device == device]
    return management.get_free_memory(device) + sum(patcher.loaded_size() for patcher in loaded)


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


def warn_of_decoding(vae: Any, latents: Tensor, chunk: int) -> None:
    """Say so when not even one chunk of latents (B, 4, T, h, w) can be decoded.

    Raises ValueError when it is far from fitting.
    """
    frames = min(chunk, latents.shape[2])
    height, width = (side * vae.upscale_ratio[1] for side in latents.shape[-2:])
    needed = vae.first_stage_model.bytes_for("decode", frames, height, width, vae.vae_dtype)
    _compare(
        needed,
        vae.device,
        f"decoding {frames} frames of {width}×{height} pixels at a time",
        "set a smaller temporal_size, take VAE Decode (Tiled), or load the VAE in bf16 or fp16",
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

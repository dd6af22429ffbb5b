"""How much of a video the VAE takes at once, and what ComfyUI is asked to make room for, which is the same.

That could go in a circle: the plan looks at what is free, and ComfyUI makes free what the plan is said to take. So both
plans allow long chunks a share of what ComfyUI *can* make free, which is the same before and after models are sent
away; only the later one is also bound by what *is* free. Where ComfyUI made room for the first plan, the second is the
first. Were it planned by what is free before that, a card full of models that are done would be decoded on in bands, a
frame at a time.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ....fusionframes_core.models.movq.chunked_decode import BLENDED
from ....fusionframes_core.models.movq.decode_plan import (
    DecodePlan,
    Room,
    asked_chunk,
    encode_bytes,
    least_bytes,
    plan_encode,
    plan_windows,
)
from ..comfy.memory import available, free_now


def plan_decoding(movq: Any, latents: Tensor, chunk: int | None, windows: str) -> DecodePlan:
    """The plan for one video's latents (1, 4, T, h, w) where they are, by what is free there now.

    Raises ValueError, in one sentence with what to change, when not even bands fit.
    """
    device, (*_, frames, height, width) = latents.device, latents.shape
    room = Room.on(device, free_now(device, movq), available(device, movq))
    return plan_windows(movq.config, frames, (height, width), latents.dtype, room, chunk, windows)


def plan_encoding(movq: Any, pixels: Tensor, device: torch.device) -> int:
    """The frames of pixels (B, 3, T, H, W) to encode at once on a device. Raises ValueError when that is none."""
    batch, _, frames, height, width = pixels.shape
    return plan_encode(movq.config, frames, (height, width), pixels.dtype, free_now(device, movq) / batch)


def decode_estimate(
    movq: Any,
    device: torch.device,
    shape: Sequence[int],
    dtype: torch.dtype,
    chunk: int | None = None,
    windows: str = BLENDED,
) -> int:
    """The bytes of `plan_decoding`, before ComfyUI makes room, for a video of latents (B, 4, T, h, w) or stills.

    Where not even bands will fit, what the least of them takes: ComfyUI frees what it can, and `plan_decoding` says
    what is missing.
    """
    frames, size = shape[2] if len(shape) == 5 else 1, (shape[-2], shape[-1])
    room = Room.on(device, available(device, movq))
    try:
        return plan_windows(movq.config, frames, size, dtype, room, chunk, windows).bytes
    except ValueError:
        return least_bytes(movq.config, min(asked_chunk(frames, chunk, windows) or 1, frames), size, dtype)


def encode_estimate(movq: Any, device: torch.device, shape: Sequence[int], dtype: torch.dtype) -> int:
    """The bytes of `plan_encoding`, before ComfyUI makes room, for pixels (B, 3, T, H, W)."""
    frames, size = shape[2], (shape[-2], shape[-1])
    try:
        frames = plan_encode(movq.config, frames, size, dtype, available(device, movq))
    except ValueError:
        frames = 1
    return encode_bytes(movq.config, frames, size, dtype)


def asking_for(vae: Any, chunk: int | None, windows: str) -> Any:
    """A copy of a VAE, of the same weights, that tells ComfyUI what such windows take: its estimate is given the
    latents' shape alone."""
    asked = copy.copy(vae)
    asked.memory_used_decode = partial(decode_estimate, vae.first_stage_model, vae.device, chunk=chunk, windows=windows)
    return asked

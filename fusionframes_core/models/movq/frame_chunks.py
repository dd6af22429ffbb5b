"""Encoding and decoding a video a few frames at a time, without the temporal layers, so that memory is theirs alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..casting import compute_dtype
from .banded_decode import BandedDecoder
from .decode_plan import encode_chunk_for, plan_for

FRAMES = 8


def encode_frames(movq: Any, pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels (B, 3, T, H, W) in [−1, 1], wherever they are, to float32 latents (B, C, T, h, w) on `device`.

    As many frames at once as the free memory allows. Raises ValueError when that is none.
    """
    dtype = compute_dtype(movq)
    chunks = pixels.split(encode_chunk_for(movq, pixels, device, dtype), dim=2)
    return torch.cat([movq.encode(chunk.to(device, dtype)).float() for chunk in chunks], dim=2)


def decode_frames(
    movq: Any, latents: Tensor, output_device: torch.device, callback: Callable[[int, int], None] | None = None
) -> Tensor:
    """Latents (B, C, T, h, w) to pixels (B, 3, T, H, W) on `output_device`.

    As many frames at once as the free memory allows, up to FRAMES, in bands where it must be. `callback(done, total)`
    follows every chunk; what it raises ends the decoding. Raises ValueError when the memory does not allow one frame.
    """
    plan = plan_for(movq, latents, output_device=output_device)
    decoder = BandedDecoder(movq, temporal=False).decode if plan.banded else partial(movq.decode, temporal=False)
    chunks = latents.split(min(FRAMES, plan.chunk), dim=2)
    decoded = []
    for index, chunk in enumerate(chunks):
        decoded.append(decoder(chunk).to(output_device))
        if callback is not None:
            callback(index + 1, len(chunks))
    return torch.cat(decoded, dim=2)

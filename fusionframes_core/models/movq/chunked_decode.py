"""Decoding long videos in overlapping chunks, so that memory is that of one chunk (paper section 4.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor


class ChunkDecoder(Protocol):
    """What decodes one chunk: a MoVQ, or one in bands."""

    @property
    def factor(self) -> int:
        """Pixels per latent position along height and along width."""

    @property
    def frames_are_independent(self) -> bool:
        """True when no frame's pixels depend on another frame's latents."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) to pixels (B, 3, T, H, W)."""


def chunk_windows(num_frames: int, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """[start, stop) of the windows that cover `num_frames`.

    All have about the same length, at most `chunk`, and share at least `overlap` frames with the next one (exactly
    that many, but for rounding). Raises ValueError for a chunk below 1 or an overlap outside [0, chunk).
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame; got {chunk}")
    if not 0 <= overlap < chunk:
        raise ValueError(f"overlap must be at least 0 and less than the chunk of {chunk} frames; got {overlap}")
    if num_frames <= chunk:
        return [(0, num_frames)]
    count = math.ceil((num_frames - overlap) / (chunk - overlap))
    length = math.ceil((num_frames + (count - 1) * overlap) / count)
    last = num_frames - length
    starts = [last * index // (count - 1) for index in range(count)]
    return [(start, start + length) for start in starts]


def official_windows(num_frames: int) -> list[tuple[int, int]]:
    """[start, stop) of the groups that the official code decodes: T // 4 of one length (the last may be shorter),
    side by side, so that seams may show; fewer than 4 frames, which the official code refuses, are one group."""
    length = math.ceil(num_frames / max(num_frames // 4, 1))
    return [(start, min(start + length, num_frames)) for start in range(0, num_frames, length)]


BLENDED, OFFICIAL = "blended", "official"
DECODE_WINDOWS = (BLENDED, OFFICIAL)
"""Into what a video is cut when it is decoded: overlapping chunks that fade into each other, or the official groups."""


def decode_windows(name: str, num_frames: int, chunk: int, overlap: int) -> list[tuple[int, int]]:
    """[start, stop) of the windows of that name. Raises ValueError for a name that is not in DECODE_WINDOWS."""
    if name not in DECODE_WINDOWS:
        raise ValueError(f"decode_windows must be one of {', '.join(DECODE_WINDOWS)}; got {name!r}")
    return official_windows(num_frames) if name == "official" else chunk_windows(num_frames, chunk, overlap)


def fade_in(num_frames: int, device: torch.device | None = None) -> Tensor:
    """Weights (num_frames,) of the incoming chunk over an overlap, strictly between 0 and 1; the outgoing chunk's
    are one minus these."""
    return torch.arange(1, num_frames + 1, device=device, dtype=torch.float32) / (num_frames + 1)


@torch.no_grad()
def decode_chunked(
    movq: ChunkDecoder,
    latents: Tensor,
    chunk: int = 16,
    overlap: int = 4,
    callback: Callable[[int, int], None] | None = None,
    output_device: torch.device | str | None = None,
    output: Tensor | None = None,
    windows: str = "blended",
) -> Tensor:
    """latents (B, C, T, h, w) -> pixels (B, 3, T, H, W) on `output_device` (default: the latents'), or into `output`.

    At most `chunk` frames are decoded at once; neighbouring chunks share `overlap` frames and fade linearly into each
    other, so that no seam shows. Where frames are independent an overlap is not needed and not taken. `callback(done,
    total)` follows every chunk; what it raises ends the decoding. `windows` "official" takes the official groups, which
    do not overlap.
    """
    total = latents.shape[2]
    spans = decode_windows(windows, total, chunk, overlap)
    if windows == "blended" and movq.frames_are_independent:
        spans = chunk_windows(total, chunk, overlap=0)
    batch, height, width = latents.shape[0], latents.shape[-2] * movq.factor, latents.shape[-1] * movq.factor
    video = latents.new_empty((batch, 3, total, height, width), device=output_device) if output is None else output
    written = 0
    for index, (start, stop) in enumerate(spans):
        pixels = movq.decode(latents[:, :, start:stop]).to(video)
        shared = written - start
        weight = fade_in(shared, video.device).to(video.dtype).view(-1, 1, 1)
        video[:, :, start:written] = video[:, :, start:written].lerp(pixels[:, :, :shared], weight)
        video[:, :, written:stop] = pixels[:, :, shared:]
        written = stop
        if callback is not None:
            callback(index + 1, len(spans))
    return video

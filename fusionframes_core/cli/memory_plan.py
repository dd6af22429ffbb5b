"""Memory: what a size will need, refused before the work where it cannot fit, and one sentence where it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..checkpoints.component import KINDS
from ..config import ModelConfig
from ..models.free_memory import available_bytes
from ..models.movq.chunked_decode import chunk_windows
from ..models.movq.decode_plan import ENCODE_CHUNK, decode_bytes
from ..settings import latent_size, spatial_factor

_GIB = 1024**3
# Measured with the tiny model on a CPU in float32; within a quarter of what 256x256 and 360x640 took.
_DECODER_FLOATS = 19  # a channel and position of the decoder's highest resolution
_ATTENTION_FLOATS = 1.5  # a pair of latent positions of one frame
_UNET_FLOATS = 29  # a channel and latent position
_PIXEL_BYTES = 15  # decoded in float32, and as uint8
_DECODE_BUDGET, _WINDOW_BUDGET = 4 * _GIB, 2 * _GIB
_LONGEST_WINDOW, _SHORTEST_WINDOW = 64, 8  # input frames
DECODE_CHUNK, _SHORTEST_CHUNK = 16, 4  # frames that are decoded at once
WINDOW_OVERLAP = 4  # input frames that neighbouring windows share


@dataclass(frozen=True)
class MemoryPlan:
    """How many input frames are interpolated, and how many frames are encoded and decoded, at once."""

    window: int
    encode: int
    decode: int
    bytes: int  # about what the largest of these needs beside the weights


def plan_memory(config: ModelConfig, size: tuple[int, int], passes: int) -> MemoryPlan:
    """The longest windows for videos of `size` (height, width) within the budget, but at least the shortest ones."""
    frame = _frame_bytes(config, size)
    positions = size[0] * size[1] // spatial_factor(config.movq) ** 2
    unet = 4 * _UNET_FLOATS * config.interpolation.trunk.model_channels * positions * 4 ** max(passes - 1, 0)
    of_window = unet + _PIXEL_BYTES * size[0] * size[1] * 4**passes
    window = min(_LONGEST_WINDOW, max(_SHORTEST_WINDOW, int(_WINDOW_BUDGET // of_window)))
    decode = min(DECODE_CHUNK, max(_SHORTEST_CHUNK, int(_DECODE_BUDGET // frame)))
    encode = min(ENCODE_CHUNK, max(1, int(_DECODE_BUDGET // frame)))
    return MemoryPlan(window, encode, decode, int(max(decode * frame, window * of_window)))


def check_fits(needed: int, size: tuple[int, int], device: torch.device) -> None:
    """Raise ValueError when a video of `size` cannot fit: when half of the estimate is more than is free."""
    free = available_bytes(device)
    if free is not None and needed / 2 > free:
        raise ValueError(
            f"size {size[0]}x{size[1]} cannot fit: it needs about {needed / _GIB:.1f} GiB, and {free / _GIB:.1f} GiB "
            f"of memory are free on {device.type}; use a smaller size"
        )


def generation_bytes(
    config: ModelConfig, size: tuple[int, int], frames: int, dtype: torch.dtype, chunk: int | None = None
) -> int:
    """The least that decoding `frames` frames of a generation needs beside the weights.

    `chunk`: frames decoded at once; None: the decoder takes what is free, down to one frame in bands.
    """
    latents = latent_size(config, size)
    kept = KINDS["movq"].stored_dtypes.get(dtype, dtype)
    least, banded = (1, True) if chunk is None else (min(chunk, frames), False)
    return decode_bytes(config.movq, least, latents, kept, banded) + _PIXEL_BYTES * size[0] * size[1] * frames


@contextmanager
def memory_in_one_sentence() -> Iterator[None]:
    """Running out of a computer's own memory becomes torch.OutOfMemoryError, as a GPU's is, in one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise torch.OutOfMemoryError(
            "out of memory: use a smaller size, fewer frames, or a type of half the size (bf16)"
        ) from error


def _frame_bytes(config: ModelConfig, size: tuple[int, int]) -> float:
    """About what one frame takes in the encoder or decoder."""
    area = size[0] * size[1]
    convolutions = _DECODER_FLOATS * config.movq.channels * area / config.movq.patch_size**2
    return 4 * (convolutions + _ATTENTION_FLOATS * (area / spatial_factor(config.movq) ** 2) ** 2)


@dataclass(frozen=True)
class Window:
    """Input frames [start, stop), of which what lies from `first` to `last` is kept.

    The frame `last` belongs to the next window, but for the last one's.
    """

    start: int
    stop: int
    first: int
    last: int


def windows_of(count: int, length: int) -> list[Window]:
    """Windows that cover `count` input frames, neighbours cut at a frame in the middle of what they share."""
    spans = chunk_windows(count, length, WINDOW_OVERLAP)
    cuts = [(left[1] + right[0]) // 2 for left, right in pairwise(spans)]
    return [
        Window(start, stop, first, last)
        for (start, stop), first, last in zip(spans, [0, *cuts], [*cuts, count - 1], strict=True)
    ]

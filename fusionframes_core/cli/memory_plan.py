"""Memory: what a size will need, refused before the work where it cannot fit, and one sentence where it runs out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch

from ..checkpoints.component import KINDS
from ..config import ModelConfig
from ..models.free_memory import available_bytes
from ..models.movq.chunked_decode import chunk_windows
from ..models.movq.decode_plan import encode_bytes, least_bytes
from ..settings import latent_size

_GIB = 1024**3
# Measured with the tiny model on a CPU in float32; within a quarter of what 256x256 and 360x640 took.
_UNET_NUMBERS = 29  # a channel and latent position
_PIXEL_BYTES = 15  # decoded in float32, and as uint8
_WINDOW_BUDGET = 2 * _GIB
_LONGEST_WINDOW, _SHORTEST_WINDOW = 64, 8  # input frames
WINDOW_OVERLAP = 4  # input frames that neighbouring windows share


@dataclass(frozen=True)
class MemoryPlan:
    """How many input frames are interpolated at once, and about what the work needs beside the weights."""

    window: int
    bytes: int


def plan_interpolation(
    config: ModelConfig,
    size: tuple[int, int],
    passes: int,
    device: torch.device,
    dtype: torch.dtype,
    chunk: int | None = None,
) -> MemoryPlan:
    """The longest windows for videos of `size` (height, width) in what is free, but at least the shortest ones.

    How many frames are encoded and decoded at once is the pipeline's to choose, when their turn comes; what they need
    at least is counted. `chunk` as for `generation_bytes`.
    """
    kept = _working_dtype(dtype)
    positions = math.prod(latent_size(config, size))
    unet = kept.itemsize * _UNET_NUMBERS * config.interpolation.trunk.model_channels * positions
    of_window = unet * 4 ** max(passes - 1, 0) + _PIXEL_BYTES * math.prod(size) * 4**passes
    free = available_bytes(device)
    budget = _WINDOW_BUDGET if free is None else min(_WINDOW_BUDGET, free // 2)  # the weights are not loaded yet
    window = min(_LONGEST_WINDOW, max(_SHORTEST_WINDOW, budget // of_window))
    encoding = encode_bytes(config.movq, 1, size, kept)
    decoding = generation_bytes(config, size, window * 4**passes, dtype, chunk)
    return MemoryPlan(window, max(window * of_window, encoding, decoding))


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
    """The least that decoding `frames` frames needs beside the weights, in bands where that is less.

    `chunk`: frames decoded at once; None: the decoder takes what is free, down to one frame.
    """
    together = 1 if chunk is None else min(chunk, frames)
    least = least_bytes(config.movq, together, latent_size(config, size), _working_dtype(dtype))
    return least + _PIXEL_BYTES * size[0] * size[1] * frames


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


def _working_dtype(dtype: torch.dtype) -> torch.dtype:
    """What models that are asked for in `dtype` compute in: matrices of 8 bits are for U-Nets' weights alone."""
    return KINDS["movq"].kept_dtype(dtype)


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

"""How a video is decoded in the memory that is free: chunks in time, and bands in space where one chunk is too much.

Encoding, which knows single frames only, takes as many of them at once as fit.

Memory is counted in tensors of the first level's size (`channels` numbers per position of the finished frame): what the
decoder holds at once, as counted on meta tensors, and a quarter more for what a device adds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...config import MoVQConfig
from ..free_memory import available_bytes
from .banded_decode import PORTION, BandedDecoder
from .chunked_decode import BLENDED, OFFICIAL, official_windows
from .movq import DECODERS, MoVQ

SHORTEST = 4  # frames of a chunk that blended decoding is still good at
GPU_SHARE = 0.4  # of what is free that a longer chunk may take: it gains little, and a GPU's memory falls to pieces
OVERLAP = 4  # frames that neighbouring chunks share, at most
WHOLE = 6.5 * 1.25  # sizes that the whole decoder holds for each frame (one H100 at 512×512: 8.0 to 8.2)
IN_BANDS = 3.0 * 1.25  # likewise in bands, and beside them
BAND_NUMBERS = 10 * PORTION  # numbers of one band's work
ENCODE_CHUNK = 8  # frames that are encoded at once, at most
ENCODING = 4.4 * 1.25  # sizes that the encoder holds for each frame


@dataclass(frozen=True)
class Room:
    """Bytes that decoding one video may take: `free` at most, and chunks beyond a short one no more than `longer`."""

    free: float
    longer: float = math.inf

    @classmethod
    def on(cls, device: torch.device, free: float, reachable: float | None = None) -> Room:
        """The room on a device with `free` bytes; `reachable`: with those that can be made free, None: no others."""
        share = 1.0 if device.type == "cpu" else GPU_SHARE
        return cls(free, share * (free if reachable is None else reachable))


@dataclass(frozen=True)
class DecodePlan:
    """Frames per chunk, frames that neighbours share, whether chunks are decoded in bands, and the bytes it takes."""

    chunk: int
    overlap: int
    banded: bool
    bytes: int


def decode_bytes(
    config: MoVQConfig, frames: int, size: tuple[int, int], dtype: torch.dtype, banded: bool = False
) -> int:
    """Memory beside the weights and the finished video to decode `frames` of latents (h, w) at once."""
    positions = size[0] * size[1] * 4 ** (len(config.channel_mult) - 1)
    numbers = frames * positions * config.channels * (IN_BANDS if banded else WHOLE)
    return math.ceil((numbers + BAND_NUMBERS * banded) * dtype.itemsize)


def video_bytes(config: MoVQConfig, frames: int, size: tuple[int, int], dtype: torch.dtype) -> int:
    """Memory of the finished video of latents (h, w)."""
    return 3 * frames * math.prod(_pixels(config, size)) * dtype.itemsize


def temporal_reach(config: MoVQConfig) -> float:
    """How many frames away a frame's pixels can still depend on a latent; infinite with attention over time."""
    parts = DECODERS[config.decoder]
    if parts.attention or (config.attention_norm == "first_frame" and config.attention_levels):
        return math.inf
    blocks = 2 + len(config.channel_mult) * (config.num_res_blocks + 1)
    per_convolution = (parts.kernel is not None) + parts.inflated
    return 2 * blocks * (per_convolution + parts.residual_blocks)


def least_bytes(config: MoVQConfig, frames: int, size: tuple[int, int], dtype: torch.dtype) -> int:
    """`decode_bytes` whole or in bands, whichever takes less: small frames are less than the work of a band."""
    return min(decode_bytes(config, frames, size, dtype, banded) for banded in (False, True))


def plan_decode(config: MoVQConfig, frames: int, size: tuple[int, int], dtype: torch.dtype, room: Room) -> DecodePlan:
    """The longest chunk of `frames` latents (h, w) that the room allows, in bands where a short one does not fit.

    No longer than those that the decoder was trained with. Raises ValueError, in one sentence with what to change, when
    not even one frame fits.
    """
    independent = temporal_reach(config) == 0
    most = min(frames, config.decode_chunk)
    least = 1 if independent else min(SHORTEST, most)
    limit = min(room.free, max(room.longer, decode_bytes(config, least, size, dtype)))
    ways = (
        (False, range(most, least - 1, -1), limit),
        (True, range(most, 0, -1), room.free),
        (False, range(least - 1, 0, -1), room.free),
    )
    for banded, lengths, bound in ways:
        for chunk in lengths:
            needed = decode_bytes(config, chunk, size, dtype, banded)
            if needed <= bound:
                return DecodePlan(chunk, _overlap(config, chunk), banded, needed)
    raise too_little("decode", least_bytes(config, 1, size, dtype), _pixels(config, size), dtype, room.free)


def plan_chunk(
    config: MoVQConfig,
    chunk: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    free: float,
    change: str = "decode fewer at once",
) -> DecodePlan:
    """The plan for chunks of that many latents (h, w): in bands where `free` bytes do not allow them otherwise.

    Raises ValueError, in one sentence with what to `change`, when they do not fit in bands either.
    """
    for banded in (False, True):
        needed = decode_bytes(config, chunk, size, dtype, banded)
        if needed <= free:
            return DecodePlan(chunk, _overlap(config, chunk), banded, needed)
    work = f"decode {chunk} frame{'s' * (chunk != 1)} at once of"
    raise too_little(work, least_bytes(config, chunk, size, dtype), _pixels(config, size), dtype, free, change)


def asked_chunk(frames: int, chunk: int | None, windows: str) -> int | None:
    """How many of `frames` frames are to be decoded at once; None: as many as fit. OFFICIAL groups have one length."""
    return official_windows(frames)[0][1] if windows == OFFICIAL else chunk


def plan_windows(
    config: MoVQConfig,
    frames: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    room: Room,
    chunk: int | None = None,
    windows: str = BLENDED,
) -> DecodePlan:
    """The plan for a video of `frames` latents (h, w): `chunk` frames at once, or as many as the room allows.

    `windows` OFFICIAL decodes groups of one length, whatever the room. Raises ValueError when they do not fit.
    """
    chunk = asked_chunk(frames, chunk, windows)
    if chunk is None:
        return plan_decode(config, frames, size, dtype, room)
    change = ("decode in blended windows",) if windows == OFFICIAL else ()
    found = plan_chunk(config, min(chunk, frames), size, dtype, room.free, *change)
    return replace(found, chunk=chunk, overlap=_overlap(config, chunk))


def too_little(
    work: str,
    needed: int,
    size: tuple[int, int],
    dtype: torch.dtype,
    free: float,
    change: str = "choose a smaller size",
) -> ValueError:
    """What is wrong, and what to change, where frames of `size` pixels (H, W) do not fit."""
    return ValueError(
        f"free memory must be at least {needed / 1e9:.2f} GB to {work} {size[1]}x{size[0]} in "
        f"{str(dtype).removeprefix('torch.')}; got {free / 1e9:.2f} GB: free some, {change}, or {work.split()[0]} on "
        "the CPU"
    )


def _pixels(config: MoVQConfig, size: tuple[int, int]) -> tuple[int, int]:
    factor = config.patch_size * 2 ** (len(config.channel_mult) - 1)
    return size[0] * factor, size[1] * factor


def encode_bytes(config: MoVQConfig, frames: int, size: tuple[int, int], dtype: torch.dtype) -> int:
    """Memory beside the weights and the video to encode `frames` frames of `size` pixels (H, W) at once."""
    positions = frames * size[0] * size[1] / config.patch_size**2
    return math.ceil(positions * config.channels * ENCODING * dtype.itemsize)


def plan_encode(config: MoVQConfig, frames: int, size: tuple[int, int], dtype: torch.dtype, free: float) -> int:
    """The most of `frames` frames of `size` pixels (H, W) that `free` bytes allow at once, up to ENCODE_CHUNK.

    Raises ValueError, in one sentence with what to change, when not even one fits.
    """
    one = encode_bytes(config, 1, size, dtype)
    if one > free:
        raise too_little("encode", one, size, dtype, free)
    fitting = (chunk for chunk in range(ENCODE_CHUNK, 1, -1) if encode_bytes(config, chunk, size, dtype) <= free)
    return min(next(fitting, 1), frames)


def encode_chunk_for(movq: MoVQ, pixels: Tensor, device: torch.device, dtype: torch.dtype) -> int:
    """The frames of pixels (B, 3, T, H, W) to encode at once on a device, in a type, by what is free there."""
    batch, _, frames, *size = pixels.shape
    free = available_bytes(device)
    return plan_encode(movq.config, frames, (size[0], size[1]), dtype, math.inf if free is None else free / batch)


def plan_for(
    movq: MoVQ,
    latents: Tensor,
    chunk: int | None = None,
    windows: str = BLENDED,
    output_device: torch.device | None = None,
) -> DecodePlan:
    """The plan for latents (B, C, T, h, w) where they are, by what is free there; see `plan_windows`.

    The finished video takes of that memory too where `output_device` is the latents' own. Raises ValueError when not
    even bands fit.
    """
    batch, _, frames, *size = latents.shape
    latent = (size[0], size[1])
    free = available_bytes(latents.device)
    each = math.inf if free is None else free / batch  # for one video
    if output_device == latents.device:
        each = max(0.0, each - video_bytes(movq.config, frames, latent, latents.dtype))
    room = Room.on(latents.device, each)
    return plan_windows(movq.config, frames, latent, latents.dtype, room, chunk, windows)


def decoder_for(movq: MoVQ, plan: DecodePlan) -> MoVQ | BandedDecoder:
    """What `decode_chunked` is given to follow a plan."""
    return BandedDecoder(movq) if plan.banded else movq


def _overlap(config: MoVQConfig, chunk: int) -> int:
    """No longer than the decoder reaches, and a quarter of the chunk."""
    return int(min(OVERLAP, temporal_reach(config), chunk // 4))

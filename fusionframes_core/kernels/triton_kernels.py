"""The Triton kernels: group norm in two passes, and merges with a bias, over channels-last tensors.

A tensor (N, C, H, W) lies as N frames of P = H·W positions of C channels. Every program adds in a fixed order, so that
results are the same in every run. Arithmetic is float32, whatever the tensors' type.
"""
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_CHANNELS = 128  # of one program
TILE = 4096  # numbers that one program holds at once
FINISHED = 1024  # likewise where chunks are joined: few enough that one build serves every number of chunks
PROGRAMS = 1024  # that keep a large GPU busy: into about as many parts the moments' pass cuts a tensor
WARPS = 4
# Numbers for which Triton need not build a kernel anew when they are 1 or a multiple of 16: they decide no layout.
PLAIN: tuple[str, ...] = (
    "positions", "chunk", "chunks", "groups", "eps", "blocks", "across", "frames", "cell_height", "cell_width",
    "period", "cells_down", "cells_across", "count", "factor",
)  # fmt: skip


@triton.jit(do_not_specialize=PLAIN)
def _moments(x, means, squares, positions, channels, chunk, chunks, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Mean and sum of squared deviations of each channel over one chunk of one frame's positions.

    Deviations are from the first tile's mean, so that nothing cancels where the mean is large.
    """
    part = tl.program_id(0)  # frame · chunks + chunk
    first = (part % chunks) * chunk
    stop = tl.minimum(first + chunk, positions)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < channels
    # Offsets inside a chunk fit into 32 bits; those of a large frame, or of all frames, do not.
    start = x + ((part // chunks).to(tl.int64) * positions + first) * channels + columns
    rows = tl.arange(0, ROWS)
    here = (first + rows < stop)[:, None] & inside[None, :]
    tile = tl.load(start[None, :] + rows[:, None] * channels, mask=here, other=0.0).to(tl.float32)
    centre = tl.sum(tile, axis=0) / tl.minimum(stop - first, ROWS).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    squared = tl.zeros((ROWS, COLUMNS), tl.float32)
    for row in range(0, chunk, ROWS):
        rows = row + tl.arange(0, ROWS)
        here = (first + rows < stop)[:, None] & inside[None, :]
        tile = tl.load(start[None, :] + rows[:, None] * channels, mask=here, other=0.0).to(tl.float32)
        deviation = tl.where(here, tile - centre[None, :], 0.0)
        total += deviation
        squared += deviation * deviation
    count = (stop - first).to(tl.float32)
    moved = tl.sum(total, axis=0) / count
    tl.store(means + part * channels + columns, centre + moved, mask=inside)
    spread = tl.sum(squared, axis=0) - count * moved * moved
    tl.store(squares + part * channels + columns, tl.maximum(spread, 0.0), mask=inside)


@triton.jit(do_not_specialize=PLAIN)
def _finish(
    means, squares, input_bias, mean, rstd, positions, channels, chunk, chunks, groups, eps,
    HAS_INPUT_BIAS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Mean and 1/√(variance + ε) of one group of one frame, from its channels' chunks (Chan's formula)."""
    program = tl.program_id(0)  # frame · groups + group
    width = channels // groups
    columns = tl.arange(0, COLUMNS)
    inside = columns < width
    columns += (program % groups) * width
    start = (program // groups) * chunks * channels
    bias = tl.zeros((COLUMNS,), tl.float32)
    if HAS_INPUT_BIAS:
        bias = tl.load(input_bias + columns, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for row in range(0, chunks, ROWS):
        rows = row + tl.arange(0, ROWS)
        here = (rows < chunks)[:, None] & inside[None, :]
        count = tl.maximum(tl.minimum(positions - rows * chunk, chunk), 0).to(tl.float32)[:, None]
        found = tl.load(means + start + rows[:, None] * channels + columns[None, :], mask=here, other=0.0)
        total += tl.where(here, (found + bias[None, :]) * (count / positions), 0.0)
    average = tl.sum(tl.sum(total, axis=0), axis=0) / width
    spread = tl.zeros((ROWS, COLUMNS), tl.float32)
    for row in range(0, chunks, ROWS):
        rows = row + tl.arange(0, ROWS)
        here = (rows < chunks)[:, None] & inside[None, :]
        count = tl.maximum(tl.minimum(positions - rows * chunk, chunk), 0).to(tl.float32)[:, None]
        place = start + rows[:, None] * channels + columns[None, :]
        apart = tl.load(means + place, mask=here, other=0.0) + bias[None, :] - average
        spread += tl.where(here, tl.load(squares + place, mask=here, other=0.0) + count * apart * apart, 0.0)
    variance = tl.sum(tl.sum(spread, axis=0), axis=0) / (width * positions)
    tl.store(mean + program, average)
    tl.store(rstd + program, 1.0 / tl.sqrt(variance + eps))


@triton.jit(do_not_specialize=PLAIN)
def _apply(
    x, out, mean, rstd, input_bias, weight, bias, scale, shift, positions, channels, groups, blocks, across,
    frames, cell_height, cell_width, stride_row, stride_channel, stride_down, stride_across, offset,
    HAS_INPUT_BIAS: tl.constexpr, AFFINE: tl.constexpr, MODULATED: tl.constexpr, PLACED: tl.constexpr,
    SILU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One block of positions and channels: normalise, scale and shift, modulate, activate."""
    program = tl.program_id(0)  # frame · blocks + block
    frame = program // blocks
    first = (program % blocks) * ROWS
    rows = first + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < channels
    here = (rows < positions)[:, None] & inside[None, :]
    start = (frame.to(tl.int64) * positions + first) * channels
    place = start + (tl.arange(0, ROWS)[:, None] * channels + columns[None, :])
    group = frame * groups + columns // (channels // groups)
    centre = tl.load(mean + group, mask=inside, other=0.0)
    if HAS_INPUT_BIAS:
        centre -= tl.load(input_bias + columns, mask=inside, other=0.0).to(tl.float32)
    factor = tl.load(rstd + group, mask=inside, other=0.0)
    y = (tl.load(x + place, mask=here, other=0.0).to(tl.float32) - centre[None, :]) * factor[None, :]
    if AFFINE:
        y *= tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
        y += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    if MODULATED:
        row = (frame // frames).to(tl.int64) * stride_row
        if PLACED:
            cell = rows // across // cell_height * stride_down + rows % across // cell_width * stride_across
            seen = row + cell[:, None] + (columns * stride_channel)[None, :]
            y = y * (tl.load(scale + seen, mask=here, other=0.0).to(tl.float32) + offset)
            y += tl.load(shift + seen, mask=here, other=0.0).to(tl.float32)
        else:
            seen = row + columns * stride_channel
            y = y * (tl.load(scale + seen, mask=inside, other=0.0).to(tl.float32) + offset)[None, :]
            y += tl.load(shift + seen, mask=inside, other=0.0).to(tl.float32)[None, :]
    if SILU:
        y = y * tl.sigmoid(y)
    tl.store(out + place, y.to(out.dtype.element_ty), mask=here)


@triton.jit
def _cell(place, size):
    """0 for the first of `size` places, then 1, but for the last 2 where it is another one."""
    return tl.minimum(place, 1) + tl.where((place == size - 1) & (place > 1), 1, 0)


@triton.jit(do_not_specialize=PLAIN)
def _merge(
    x, fresh, bias, weight, out, positions, channels, blocks, frames, across, period, cells_down, cells_across,
    WEIGHTED: tl.constexpr, CONVEX: tl.constexpr, EDGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """x + weight · (fresh + bias − convex · x) over one block of positions and channels.

    The bias is one of `period` frames', and of the cell of the position if EDGES: see `elementwise.place_bias`.
    """
    program = tl.program_id(0)  # frame · blocks + block
    frame = program // blocks
    first = (program % blocks) * ROWS
    rows = first + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < channels
    here = (rows < positions)[:, None] & inside[None, :]
    start = (frame.to(tl.int64) * positions + first) * channels
    place = start + (tl.arange(0, ROWS)[:, None] * channels + columns[None, :])
    old = tl.load(x + place, mask=here, other=0.0).to(tl.float32)
    new = tl.load(fresh + place, mask=here, other=0.0).to(tl.float32)
    seen = bias + frame % period * (cells_down * cells_across * channels) + columns
    if EDGES:
        cell = _cell(rows // across, positions // across) * cells_across + _cell(rows % across, across)
        new += tl.load(seen[None, :] + cell[:, None] * channels, mask=here, other=0.0).to(tl.float32)
    else:
        new += tl.load(seen, mask=inside, other=0.0).to(tl.float32)[None, :]
    if CONVEX:
        new -= old
    if WEIGHTED:
        new *= tl.load(weight + frame // frames).to(tl.float32)
    tl.store(out + place, (old + new).to(out.dtype.element_ty), mask=here)


def group_norm(
    x: Tensor, groups: int, eps: float, input_bias: Tensor | None, weight: Tensor | None, bias: Tensor | None,
    scale: Tensor | None, shift: Tensor | None, scale_offset: float, silu: bool,
) -> Tensor:  # fmt: skip
    """`torch.ops.fusionframes.group_norm`: see `fused_operations.group_norm`."""
    x = x.contiguous(memory_format=torch.channels_last)
    frames, channels, height, width = x.shape
    positions = height * width
    columns, rows = _tile(channels)
    out = torch.empty_like(x)
    with torch.cuda.device_of(x):
        mean, rstd = _statistics(x, groups, eps, input_bias)
        blocks = triton.cdiv(positions, rows)
        scale, shift = _alike(scale, shift)
        cells = (
            (1, 1, 1)
            if scale is None
            else (frames // scale.shape[0], height // scale.shape[2], width // scale.shape[3])
        )
        strides = (0, 0, 0, 0) if scale is None else scale.stride()
        _apply[frames * blocks, triton.cdiv(channels, columns)](
            x, out, mean, rstd, input_bias, weight, bias, scale, shift, positions, channels, groups, blocks, width,
            *cells, *strides, scale_offset, input_bias is not None, weight is not None, scale is not None,
            scale is not None and scale.shape[2:].numel() > 1, silu, rows, columns, num_warps=WARPS,
        )  # fmt: skip
    return out


def _statistics(x: Tensor, groups: int, eps: float, input_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and 1/√(variance + ε) of every group of x (N, C, H, W), channels-last: each (N, groups) float32."""
    frames, channels, positions = x.shape[0], x.shape[1], x.shape[2:].numel()
    columns, rows = _tile(channels)
    column_blocks = triton.cdiv(channels, columns)
    wanted = max(PROGRAMS // (frames * column_blocks), 1)
    chunk = triton.cdiv(triton.cdiv(positions, wanted), rows) * rows
    chunks = triton.cdiv(positions, chunk)
    means, squares = x.new_empty((2, frames, chunks, channels), dtype=torch.float32)
    mean, rstd = x.new_empty((2, frames, groups), dtype=torch.float32)
    _moments[frames * chunks, column_blocks](
        x, means, squares, positions, channels, chunk, chunks, rows, columns, num_warps=WARPS
    )
    across = triton.next_power_of_2(channels // groups)
    down = max(FINISHED // across, 1)
    _finish[(frames * groups,)](
        means, squares, input_bias, mean, rstd, positions, channels, chunk, chunks, groups, eps,
        input_bias is not None, down, across, num_warps=WARPS,
    )  # fmt: skip
    return mean, rstd


def merge(x: Tensor, fresh: Tensor, bias: Tensor, weight: Tensor | None, convex: bool, over: bool = False) -> Tensor:
    """`torch.ops.fusionframes.merge`, and `.merge_` of a channels-last x: see `fused_operations.merge`."""
    x, fresh = (part.contiguous(memory_format=torch.channels_last) for part in (x, fresh))
    frames, channels, positions = x.shape[0], x.shape[1], x.shape[2:].numel()
    columns, rows = _tile(channels)
    blocks = triton.cdiv(positions, rows)
    out = x if over else torch.empty_like(x)
    per_weight = frames if weight is None else frames // weight.numel()
    bias = bias.contiguous()
    cells = (1, 1, 1) if bias.ndim == 1 else bias.shape[:3]
    with torch.cuda.device_of(x):
        _merge[frames * blocks, triton.cdiv(channels, columns)](
            x, fresh, bias, weight, out, positions, channels, blocks, per_weight, x.shape[3], *cells,
            weight is not None, convex, cells[1] * cells[2] > 1, rows, columns, num_warps=WARPS,
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=PLAIN)
def _softmax(scores, out, count, length, factor, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """softmax(factor · scores) of ROWS rows of `length` numbers."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, COLUMNS)
    here = (rows < count)[:, None] & (columns < length)[None, :]
    place = rows.to(tl.int64)[:, None] * length + columns[None, :]
    y = tl.load(scores + place, mask=here, other=-float("inf")).to(tl.float32) * factor
    y = tl.exp(y - tl.where(rows < count, tl.max(y, axis=1), 0.0)[:, None])
    share = y / tl.where(rows < count, tl.sum(y, axis=1), 1.0)[:, None]
    tl.store(out + place, share.to(out.dtype.element_ty), mask=here)


def softmax(scores: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """`torch.ops.fusionframes.softmax`: see `fused_operations.softmax`."""
    scores = scores.contiguous()
    length = scores.shape[-1]
    columns = triton.next_power_of_2(length)
    rows, count = max(TILE // columns, 1), scores.numel() // length
    out = torch.empty_like(scores, dtype=dtype)
    with torch.cuda.device_of(scores):
        _softmax[(triton.cdiv(count, rows),)](
            scores, out, count, length, factor, rows, columns, num_warps=max(WARPS * columns // TILE, WARPS)
        )
    return out


def try_out(device: torch.device, dtype: torch.dtype) -> None:
    """Build and run every kernel once on a few numbers; raises what Triton raises where it cannot."""
    # As many channels as most layers' programs have, so that these builds are of use.
    x = torch.ones(2, MOST_CHANNELS, 2, 2, device=device, dtype=dtype)
    channels, placed = x[0, :, 0, 0].contiguous(), x[:, :, :1, :].contiguous()
    group_norm(x, 32, 1e-5, channels, channels, channels, placed, placed, 1.0, True)
    merge(x, x, channels, channels[:1], True)
    merge(x, x, channels.expand(2, 2, 2, -1), channels[:1], True)
    softmax(x[:, :, 0, 0].float(), 1.0, dtype)


def _tile(channels: int) -> tuple[int, int]:
    """Channels and positions of one program's tile."""
    columns = min(triton.next_power_of_2(channels), MOST_CHANNELS)
    return columns, TILE // columns


def _alike(scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Both with the same strides."""
    if scale is None or shift is None or scale.stride() == shift.stride():
        return scale, shift
    return scale.contiguous(), shift.contiguous()

"""Single operations of `python -m benchmarks.gpu`: in torch's own steps and by the fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu_bench import Bench
from benchmarks.harness import Work
from fusionframes_core.kernels.elementwise import add_residual
from fusionframes_core.kernels.group_norms import GroupNormSpec, conditional_norm, spatial_norm
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.kernels.wide_attention import wide_attention

CALLS = 50


def kernel(bench: Bench, build: Callable[[Bench], Work]) -> dict[str, Any]:
    """One operation in torch's own steps and by the fused kernel, many times: one call alone is mostly its launch."""
    work, times = build(bench), 1 if bench.extent.small else CALLS

    def row() -> Tensor:
        for _ in range(times - 1):
            work()
        return work()

    with fused_kernels(False):
        found: dict[str, Any] = {"torch_ms": bench.milliseconds(row) / times}
    if bench.on_gpu:
        found["ms"] = bench.milliseconds(row) / times
    return found


def _activation(bench: Bench, frames: int, channels: int, side: int) -> Tensor:
    shape = (2, 32, 8, 8) if bench.extent.small else (frames, channels, side, side)
    x = torch.randn(shape, device=bench.place.device, dtype=bench.place.dtype)
    return x.contiguous(memory_format=torch.channels_last)


def conditional_norm_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    x = _activation(bench, frames, channels, side)
    scale, shift = torch.randn(2, 2, x.shape[1]).to(x)
    return lambda: conditional_norm(x, GroupNormSpec(32), scale, shift, silu=True)


def spatial_norm_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    x = _activation(bench, frames, channels, side)
    scale, shift = torch.randn(2, x.shape[0], x.shape[1], 4, 4).to(x)
    weight, bias = torch.randn(2, x.shape[1]).to(x)
    return lambda: spatial_norm(x, GroupNormSpec(32, 1e-6, weight, bias), scale, shift, silu=True)


def residual_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    x = _activation(bench, frames, channels, side)
    fresh, bias = x.clone(), torch.randn(x.shape[1]).to(x)
    return lambda: add_residual(x, fresh, bias)


def attention_work(bench: Bench, frames: int, channels: int, side: int) -> Work:
    shape = (1, 1, 64, 512) if bench.extent.small else (frames, 1, side * side, channels)
    query, key, value = torch.randn(3, *shape, device=bench.place.device, dtype=bench.place.dtype)
    return lambda: wide_attention(query, key, value)


KERNELS: dict[str, Callable[[Bench], Work]] = {
    "U-Net norm, 32 × 384 × 64²": partial(conditional_norm_work, frames=32, channels=384, side=64),
    "U-Net norm, 32 × 1536 × 16²": partial(conditional_norm_work, frames=32, channels=1536, side=16),
    "U-Net norm, 32 × 3072 × 8²": partial(conditional_norm_work, frames=32, channels=3072, side=8),
    "MoVQ norm, 8 × 256 × 512²": partial(spatial_norm_work, frames=8, channels=256, side=512),
    "MoVQ norm, 8 × 1024 × 64²": partial(spatial_norm_work, frames=8, channels=1024, side=64),
    "residual with bias, 32 × 384 × 64²": partial(residual_work, frames=32, channels=384, side=64),
    "attention, 8 × 4096 × 1024": partial(attention_work, frames=8, channels=1024, side=64),
}

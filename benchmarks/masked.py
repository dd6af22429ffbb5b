"""`python -m benchmarks.masked`: group interpolation against Masked Frame Interpolation, 16 → 61 frames.

One forward of both tiny U-Nets (same trunk, random weights) at several batch sizes: FLOPs and processor time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Work
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet.masked_unet import MaskedInterpolationUNet
from fusionframes_core.presets import TINY

KINDS: tuple[type[InterpolationUNet], ...] = (InterpolationUNet, MaskedInterpolationUNet)


def works(batch: int, keyframes: int, size: int = 64) -> list[Callable[[], Tensor]]:
    """One forward of both tiny U-Nets for videos of size × size pixels."""
    unets = [kind(TINY.interpolation).eval().requires_grad_(False) for kind in KINDS]
    return [forward(unet, batch, keyframes, size // 8) for unet in unets]


def forward(unet: InterpolationUNet, batch: int, keyframes: int, side: int, tokens: int | None = None) -> Work:
    """One forward of either U-Net, in its type and where it is, for latents of side × side."""
    weight, width = unet.in_layer.weight, unet.config.context_dim
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    count = tokens or TINY.text.max_tokens
    condition = InterpolationCondition(
        keyframes=torch.randn(batch, 4, keyframes, side, side, **like),
        context=torch.randn(batch, count, width, **like),
        mask=torch.ones(batch, count, dtype=torch.bool, device=weight.device),
        skip_frames=torch.full((batch,), 3, device=weight.device),
        perturbation=torch.zeros(batch, device=weight.device),
        temporal=torch.ones(batch, dtype=torch.bool, device=weight.device),
    )
    masked = isinstance(unet, MaskedInterpolationUNet)
    shape = (batch, 4, 4 * keyframes - 3) if masked else (batch, 12, keyframes - 1)
    x, t = torch.randn(*shape, side, side, **like), torch.full((batch,), 500, device=weight.device)
    return lambda: unet(x, t, condition)


def compare(batch: int, keyframes: int, repeats: int, size: int) -> dict[str, float]:
    """FLOPs and median processor seconds of both, and masked / ours."""
    pair = works(batch, keyframes, size)
    flops: list[int] = []
    times: tuple[list[float], list[float]] = ([], [])
    for work in pair:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            work()
        flops.append(counter.get_total_flops())
    with torch.no_grad():
        for _ in range(repeats):
            for work, taken in zip(pair, times, strict=True):
                start = time.process_time()
                work()
                taken.append(time.process_time() - start)
    ours, masked = map(statistics.median, times)
    return {"flops": flops[0], "flops_ratio": flops[1] / flops[0], "seconds": ours, "time_ratio": masked / ours}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line per batch size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.masked", description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--keyframes", type=int, default=16)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels; the paper trains at 256")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    frames = f"{options.keyframes} → {4 * options.keyframes - 3} frames of {options.size}×{options.size}"
    print(f"| masked / ours: time | FLOPs | {frames}, batch | ours |\n| --- | --- | --- | --- |")
    for batch in options.batches:
        row = compare(batch, options.keyframes, options.repeats, options.size)
        ours = f"{row['seconds'] * 1e3:.0f} ms, {row['flops'] / 1e9:.2f} GFLOP"
        print(f"| {row['time_ratio']:.2f} | {row['flops_ratio']:.2f} | {batch} | {ours} |")


if __name__ == "__main__":
    main()

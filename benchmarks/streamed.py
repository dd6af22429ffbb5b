"""`python -m benchmarks.streamed`: the GPU memory of a guided keyframe step at 512×512, weights there or streamed.

The 4.14 B keyframe U-Net of 1.0 runs on meta tensors, 16 frames, both predictions at once. What it holds beside the
weights is counted as in a run, and so are the weights of blocks that come one by one (`--offload layers`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.our_stages import FULL, OUR_STAGES, SMALL, Extent, Place
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.streamed_layers import StreamedLayers
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.casting import FP8, FP8_COMPUTE, operations_for, stored_type
from fusionframes_core.models.layout import channels_last
from training.accounting.live_memory import LiveMemory

META = torch.device("meta")


@dataclass(frozen=True)
class Need:
    """Bytes of a step: of all weights, of those that are there, and of everything together at its most."""

    weights: int
    resident: int
    most: int


@torch.no_grad()
def measure(extent: Extent, dtype: torch.dtype, streamed: bool) -> Need:
    """A guided keyframe step of 1.0, its weights stored in `dtype`."""
    stage = replace(OUR_STAGES[0])
    config = stage.sized(extent)
    kind = FP8_COMPUTE if dtype == FP8 else dtype
    unet = build(config.keyframe, device="meta", dtype=kind, operations=operations_for(dtype)).eval()
    for name, parameter in unet.requires_grad_(False).named_parameters():
        parameter.data = parameter.data.to(stored_type(name, parameter.ndim, dtype))
    channels_last(unet)
    weights = sum(parameter.nbytes for parameter in unet.parameters())
    with fused_kernels(True):
        work = stage.work(unet, config, extent, Place("meta", kind))
        layers = StreamedLayers(unet, META) if streamed else None
        resident = weights if layers is None else sum(parameter.nbytes for parameter in layers.others)
        if layers is not None:
            layers.open()
        memory = LiveMemory(unet.parameters())
        with memory:
            for _ in range(3):  # blocks are sent for ahead from the second step on
                work()
    return Need(weights, resident, resident + memory.peak)


def table(extent: Extent) -> str:
    """One line per type and way."""
    lines = ["| weights | where | GB of weights | GB that stay | GB at the most |", "| --- | --- | --- | --- | --- |"]
    for dtype, name in ((torch.bfloat16, "bf16"), (FP8, "fp8")):
        for streamed in (False, True):
            need = measure(extent, dtype, streamed)
            numbers = " | ".join(f"{size / 1e9:.2f}" for size in (need.weights, need.resident, need.most))
            lines.append(f"| {name} | {'streamed' if streamed else 'on the GPU'} | {numbers} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streamed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a small model: checks that it runs")
    print(table(SMALL if parser.parse_args(arguments).small else FULL))


if __name__ == "__main__":
    main()

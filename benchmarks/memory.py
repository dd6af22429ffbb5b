"""`python -m benchmarks.memory`: the GPU memory at 512×512 that sampling and decoding take, counted without a GPU.

Everything runs on meta tensors, with what a GPU does otherwise than they do (attention keeps no scores, weights of
blocks come one by one). First a guided keyframe step of 1.0, 16 frames, both predictions at once, with its weights on
the GPU or streamed (`--offload layers`). Then the decoding of 241 frames by what is free on a card: one chunk of the
plan, beside the weights; the finished video is in main memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.harness import Work
from benchmarks.official_stages import randomise
from benchmarks.our_stages import FULL, OUR_STAGES, SMALL, Extent, Place, latents, random_model, shrunk
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.streamed_layers import StreamedLayers
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.casting import FP8, FP8_COMPUTE, operations_for, stored_type
from fusionframes_core.models.layout import channels_last
from fusionframes_core.models.movq.decode_plan import DecodePlan, Room, decoder_for, plan_chunk, plan_decode
from fusionframes_core.presets import KANDINSKY_VIDEO_1_1
from training.accounting.gpu_rules import GpuRules
from training.accounting.live_memory import LiveMemory

FRAMES = 241
STORED = {"bf16": torch.bfloat16, "fp8": FP8}
CARDS = {"24 GB": 22e9, "16 GB": 14.5e9, "12 GB": 11e9, "8 GB": 7e9, "4 GB": 3e9}
"""What is free on a card while MoVQ's weights are there, about."""


@dataclass(frozen=True)
class Need:
    """Bytes of a step: of all weights, of those that are there, and of everything together at its most."""

    weights: int
    resident: int
    most: int


@dataclass(frozen=True)
class StoredStep:
    """A guided keyframe step of 1.0 whose weights are stored in a type; bytes of all weights and of those that stay."""

    unet: nn.Module
    work: Work
    weights: int
    resident: int


def stored_step(extent: Extent, device: str, dtype: torch.dtype, streamed: bool) -> StoredStep:
    """Random weights in `dtype` on the device, or `streamed` to it."""
    stage = OUR_STAGES[0]
    config = stage.sized(extent)
    kind = FP8_COMPUTE if dtype == FP8 else dtype
    unet = build(config.keyframe, device=device, dtype=kind, operations=operations_for(dtype)).eval()
    (unet if device == "meta" else randomise(unet)).requires_grad_(False)
    for name, parameter in unet.named_parameters():
        parameter.data = parameter.data.to(stored_type(name, parameter.ndim, dtype))
    channels_last(unet)
    work = stage.work(unet, config, extent, Place(device, kind))
    weights = resident = sum(parameter.nbytes for parameter in unet.parameters())
    if streamed:
        layers = StreamedLayers(unet if device == "meta" else unet.cpu(), torch.device(device))
        resident = sum(parameter.nbytes for parameter in layers.others)
        layers.open()
    return StoredStep(unet, work, weights, resident)


@torch.no_grad()
def measure(extent: Extent, dtype: torch.dtype, streamed: bool) -> Need:
    """A guided keyframe step of 1.0, its weights stored in `dtype`."""
    with fused_kernels(True):
        step = stored_step(extent, "meta", dtype, streamed)
        memory = LiveMemory(step.unet.parameters())
        with memory, GpuRules(memory):
            for _ in range(3):  # blocks are sent for ahead from the second step on
                step.work()
    return Need(step.weights, step.resident, step.resident + memory.peak)


@torch.no_grad()
def decoding(extent: Extent, plan: DecodePlan) -> int:
    """Bytes beside the weights of one chunk of a plan, `conv3_attn` in bf16."""
    config, place = shrunk(KANDINSKY_VIDEO_1_1) if extent.small else KANDINSKY_VIDEO_1_1, Place("meta", torch.bfloat16)
    with fused_kernels(True):
        movq: Any = random_model(config.movq, place)
        chunk = latents(extent, place, plan.chunk).to(place.dtype)
        memory = LiveMemory([*movq.parameters(), chunk])
        with memory, GpuRules(memory):
            decoder_for(movq, plan).decode(chunk)
    return memory.peak


def decode_plans() -> dict[str, DecodePlan]:
    """By card, what is planned of itself, and what where fewer frames at once are asked for."""
    config, size = KANDINSKY_VIDEO_1_1.movq, (FULL.side,) * 2
    rooms = {card: Room.on(torch.device("cuda"), free) for card, free in CARDS.items()}
    plans = {card: plan_decode(config, FRAMES, size, torch.bfloat16, room) for card, room in rooms.items()}
    asked = {f"12 GB, `--decode-chunk {chunk}`": chunk for chunk in (2, 1)}
    return plans | {
        name: plan_chunk(config, chunk, size, torch.bfloat16, CARDS["12 GB"]) for name, chunk in asked.items()
    }


def step_table(extent: Extent) -> str:
    """One line per type and way."""
    lines = ["| weights | where | GB of weights | GB that stay | GB at the most |", "| --- | --- | --- | --- | --- |"]
    for name, dtype in STORED.items():
        for streamed in (False, True):
            need = measure(extent, dtype, streamed)
            numbers = " | ".join(f"{size / 1e9:.2f}" for size in (need.weights, need.resident, need.most))
            lines.append(f"| {name} | {'streamed' if streamed else 'on the GPU'} | {numbers} |")
    return "\n".join(lines)


def decode_table(extent: Extent) -> str:
    """One line per card."""
    lines = ["| card | frames at once | GB planned | GB counted |", "| --- | --- | --- | --- |"]
    for card, plan in decode_plans().items():
        chunk = f"{plan.chunk}{' in bands' * plan.banded}"
        lines.append(f"| {card} | {chunk} | {plan.bytes / 1e9:.2f} | {decoding(extent, plan) / 1e9:.2f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small models: checks that it runs")
    extent = SMALL if parser.parse_args(arguments).small else FULL
    print(f"{step_table(extent)}\n\n{decode_table(extent)}")


if __name__ == "__main__":
    main()

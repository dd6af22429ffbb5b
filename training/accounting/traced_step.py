"""A training step run on the meta device: what it holds at its peak, and its arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from fusionframes_core.kernels.wide_attention import WIDEST_FUSED

from ..engine.frozen import spare_inputs, to_bf16
from ..engine.sharding import CHECKPOINTED, SHARDED, checkpoint_activations, trainable_of
from .cpu_rules import cpu_scratch
from .gpu_rules import GpuRules
from .live_memory import LiveMemory
from .network_steps import NetworkStep

LOW_TYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TracedAs:
    """How a step runs: clips at once, whether blocks are computed again, `mixed_precision`, how frozen weights are
    kept (`frozen` of a run), whether gradients of an earlier part are there before it starts, and on what it runs."""

    clips: int = 1
    checkpointing: bool = False
    precision: str = "no"
    frozen: str = "same"
    accumulates: bool = False
    device: str = "cuda"


@dataclass(frozen=True)
class Sizes:
    """Parameters and bytes of a network: what trains, what is frozen, and the largest block, in the computing type."""

    trainable: int  # parameters
    trainable_bytes: int
    frozen: int
    frozen_bytes: int
    largest_block: int


@dataclass(frozen=True)
class Trace:
    """One step: `peak` bytes that it holds beside weights, optimizer and average, gradients included, and the
    `operations` that it takes on all its clips."""

    sizes: Sizes
    peak: int
    operations: int


def trace_step(step: NetworkStep, how: TracedAs) -> Trace:
    """Run one step on the meta device."""
    with torch.device("meta"):
        model = step.build().train()
    if how.frozen == "bf16":
        to_bf16(model)
    spare_inputs(model)
    trained, low = trainable_of(model), LOW_TYPES[how.precision]
    sizes = sizes_of(model, low or torch.float32)
    on_cpu = how.device == "cpu"
    memory = LiveMemory([*model.parameters(), *model.buffers()], cpu_scratch if on_cpu else None)
    rules = GpuRules(memory, low, math.inf if on_cpu else WIDEST_FUSED)  # a CPU has a fused kernel for any width
    for block in (block for block in model.modules() if isinstance(block, CHECKPOINTED)):
        block.forward = rules.around(block.forward)  # type: ignore[method-assign]
    if how.checkpointing:
        checkpoint_activations(model)
    model.forward = rules.around(model.forward, remember=True)
    with memory:
        gradients = 0
        if how.accumulates:
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)
            gradients = memory.live
        step.loss(model, how.clips, torch.device("meta")).backward()
    return Trace(sizes, max(memory.peak, gradients), memory.operations)


def sizes_of(model: nn.Module, computed: torch.dtype) -> Sizes:
    """The sizes of a network that computes in a type; buffers count as frozen."""
    trained = [p for p in model.parameters() if p.requires_grad]
    frozen = [*(p for p in model.parameters() if not p.requires_grad), *model.buffers()]
    blocks = [sum(p.numel() for p in block.parameters()) for block in model.modules() if isinstance(block, SHARDED)]
    return Sizes(
        sum(p.numel() for p in trained),
        sum(p.nbytes for p in trained),
        sum(p.numel() for p in frozen),
        sum(p.nbytes for p in frozen),
        max(blocks, default=0) * computed.itemsize,
    )

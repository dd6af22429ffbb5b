"""A real training step of a reduced network on the CPU, measured: `python -m tests.helpers.measured_step CASE`.

Prints JSON: `rss`, how far the process grew over what it was with weights and optimizer states, at most, by the
kernel's own count of resident memory. Needs Linux.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from fusionframes_core.presets import PAPER
from training.accounting.network_steps import ClipShape, NetworkStep, decoder_step, interpolation_step, keyframe_step
from training.accounting.traced_step import TracedAs
from training.engine.frozen import spare_inputs
from training.engine.sharding import checkpoint_activations, trainable_of

UNET = replace(
    PAPER.keyframe, model_channels=64, init_channels=64, time_embed_dim=128, context_dim=64, groups=32, head_dim=32,
    channel_mult=(1, 2, 4), num_blocks=(2, 2, 2), cross_attention=(False, True, True),
    self_attention=(False, True, True),
)  # fmt: skip
MODEL = replace(
    PAPER,
    keyframe=UNET,
    interpolation=replace(PAPER.interpolation, trunk=replace(UNET, temporal="none", in_channels=20, out_channels=12)),
    movq=replace(PAPER.movq, channels=64, channel_mult=(1, 2, 4), num_res_blocks=1, attention_levels=(2,)),
)
CASES: dict[str, tuple[NetworkStep, TracedAs]] = {
    "keyframes": (keyframe_step(MODEL, ClipShape(8, 24, 24, 20)), TracedAs()),
    "checkpointed": (keyframe_step(MODEL, ClipShape(8, 24, 24, 20)), TracedAs(clips=2, checkpointing=True)),
    "interpolation": (interpolation_step(MODEL, ClipShape(33, 16, 16, 20)), TracedAs()),
    "decoder": (decoder_step(MODEL, 4, (64, 64), "decoder"), TracedAs()),
    "decoder, temporal": (decoder_step(MODEL, 8, (64, 64), "temporal"), TracedAs()),
}
"""Reduced sizes of the paper's networks."""


def resident(name: str) -> int:
    """VmRSS or VmHWM, its peak, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def measure(step: NetworkStep, how: TracedAs) -> dict[str, int]:
    """The second of two steps: the first one warms up what libraries keep."""
    torch.set_num_threads(1)
    model = step.build().train()
    spare_inputs(model)
    if how.checkpointing:
        checkpoint_activations(model)
    for _ in range(2):
        for parameter in trainable_of(model):
            parameter.grad = None
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resident("VmRSS")
        step.loss(model, how.clips, "cpu").backward()
    return {"rss": resident("VmHWM") - before}


if __name__ == "__main__":
    print(json.dumps(measure(*CASES[sys.argv[1]])))

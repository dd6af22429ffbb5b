"""What a training stage takes on each card: bytes by part, for the ways in which a run can share and shrink them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from .network_steps import NetworkStep
from .traced_step import Trace, TracedAs, trace_step

GB = 1e9
CONTEXT = 0.8 * GB  # of CUDA itself and its libraries, which no tensor accounts for; of the order that drivers take
FLOAT = 4
STATES = {"adamw": 2 * FLOAT, "adamw8bit": 2 * (1 + FLOAT / 256)}
"""Bytes of optimizer states for each parameter: two numbers, in 8 bits with a scale for every 256."""


@dataclass(frozen=True)
class Setting:
    """What decides a card's memory; the names are those of the settings of a run, `base` a LoRA stage's."""

    clips: int = 1  # on a card at once
    accumulation: int = 1
    precision: str = "no"
    checkpointing: bool = False
    frozen: str = "same"
    optimizer: str = "adamw"
    shard: str = "none"
    base: str = "fp32"
    device: str = "cuda"

    @property
    def traced_as(self) -> TracedAs:
        """What of it decides which operations run."""
        accumulates = self.accumulation > 1
        return TracedAs(self.clips, self.checkpointing, self.precision, self.frozen, accumulates, self.device)


@dataclass
class PlannedStage:
    """A stage whose steps can be counted: `step` gives the network for a `base`; steps that were counted are kept."""

    name: str
    setting: Setting
    step: Callable[[str], NetworkStep]
    steps: int  # of the whole run
    cards: int = 8  # that the run's steps are meant for
    has_base: bool = False
    _traces: dict[tuple[str, TracedAs], Trace] = field(default_factory=dict)

    def trace(self, setting: Setting) -> Trace:
        """One step as the setting runs it."""
        key = (setting.base, setting.traced_as)
        if key not in self._traces:
            self._traces[key] = trace_step(self.step(setting.base), setting.traced_as)
        return self._traces[key]

    def weights(self) -> int:
        """Bytes of the network's weights, without counting a step."""
        with torch.device("meta"):
            network = self.step(self.setting.base).build()
        return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))

    def operations(self, setting: Setting) -> float:
        """Arithmetic of one clip, without what checkpointing computes again."""
        return self.trace(replace(setting, checkpointing=False)).operations / setting.clips


def memory_parts(trace: Trace, setting: Setting, cards: int) -> dict[str, float]:
    """Bytes on each of `cards` cards, by part."""
    sizes = trace.sizes
    full = cards if setting.shard == "full" else 1
    states = cards if setting.shard in ("optimizer", "full") else 1
    parts = {
        "weights that train": sizes.trainable_bytes / full,
        "frozen weights": sizes.frozen_bytes / full,
        "gradients": sizes.trainable_bytes / full,
        "optimizer": sizes.trainable * STATES[setting.optimizer] / states,
        "average": sizes.trainable_bytes / full,
        "activations": float(max(0, trace.peak - sizes.trainable_bytes)),
    }
    if cards > 1:  # DDP adds gradients up in buckets of their size; FSDP gathers two blocks at a time
        parts["exchange"] = 2.0 * sizes.largest_block if setting.shard == "full" else sizes.trainable_bytes
    return parts if setting.device == "cpu" else {**parts, "CUDA": CONTEXT}


def total(stage: PlannedStage, setting: Setting, cards: int) -> float:
    """Bytes on each card."""
    return sum(memory_parts(stage.trace(setting), setting, cards).values())


@dataclass(frozen=True)
class Speed:
    """Of a whole run on several cards."""

    clips: float  # a second
    frames: float
    tokens: float  # positions of latents
    days: float


def speed(stage: PlannedStage, cards: int, rate: float) -> Speed:
    """At `rate` operations a second on each card, for as many clips as the run's steps have on its own cards."""
    step, setting = stage.step(stage.setting.base), stage.setting
    clips = cards * rate / stage.operations(setting)
    needed = stage.steps * setting.clips * setting.accumulation * stage.cards
    return Speed(clips, clips * step.frames, clips * step.positions, needed / clips / 86400)

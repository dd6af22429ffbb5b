"""How much of a card a run uses: model FLOP utilisation (MFU; arXiv 2204.02311, appendix B)."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .nested import map_tensors
from .run_settings import TrainSettings

PEAK_TFLOPS = {
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "A40": 150.0,
    "A10": 125.0,
    "RTX 5090": 210.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
    "MI300X": 1307.0,
}
"""Dense matrix products in 16 bits with float32 sums, TFLOP/s by the makers' data sheets; the first name that fits."""


def peak_tflops(device: torch.device, mixed_precision: str) -> float | None:
    """What the card could do in 16 bits; None for one that is not in the table, and in float32."""
    if device.type != "cuda" or mixed_precision == "no":
        return None
    name = torch.cuda.get_device_name(device)
    return next((rate for card, rate in PEAK_TFLOPS.items() if re.search(rf"\b{card}\b", name)), None)


@dataclass(frozen=True)
class Utilisation:
    """`flops`: of one process's step, without what activation checkpointing computes again; `peak` in TFLOP/s."""

    flops: float
    peak: float

    def figures(self, seconds: float) -> dict[str, float]:
        """For steps that took so long: TFLOP/s of each process, and its share of the card's peak."""
        rate = self.flops / seconds / 1e12
        return {"tflops": rate, "mfu": rate / self.peak}


class Meter:
    """Counts a step's work at its first call, where the card's peak is known; elsewhere it does nothing."""

    def __init__(self, model: nn.Module, settings: TrainSettings, device: torch.device) -> None:
        """Before the model is compiled or sharded."""
        self.peak = settings.peak_tflops or peak_tflops(device, str(settings.mixed_precision))
        self.parts = settings.accumulation
        self.twin: MetaTwin | None = None
        self.recorded: Recorded | None = None
        self.problem = ""
        if self.peak is not None:
            self._try(lambda: setattr(self, "twin", MetaTwin(model)))

    def watch(self, model: nn.Module) -> Any:
        """The model for one call of the objective's loss, which it may be asked about afterwards."""
        if self.twin is None:
            return model
        self.recorded = self.recorded or Recorded(model)
        return self.recorded if not self.recorded.called else model

    @cached_property
    def utilisation(self) -> Utilisation | None:
        """After the first step; None where there is no peak to compare with, or `problem` says why not."""
        twin, seen, found = self.twin, self.recorded, None
        if twin is not None and seen is not None and self.peak is not None:
            flops: list[int] = []
            self._try(lambda: flops.append(twin.flops(seen.arguments, seen.options)))
            found = Utilisation(flops[0] * self.parts, self.peak) if flops else None
        self.twin = self.recorded = None
        return found

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # models may do what has no meaning without numbers: then there is no figure
            self.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class MetaTwin:
    """A model's twin on the meta device, which has shapes and no numbers: what a training step of it computes.

    Made before the model is compiled or sharded, and asked with the arguments of a real call. It costs no memory.
    """

    def __init__(self, model: nn.Module) -> None:
        known: dict[int, Any] = {}
        for tensor in (*model.parameters(), *model.buffers()):
            twin = to_meta(tensor)
            trains = isinstance(tensor, nn.Parameter)
            known[id(tensor)] = nn.Parameter(twin, requires_grad=tensor.requires_grad) if trains else twin
        self.twin = copy.deepcopy(model, known).train()

    def flops(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> int:
        """Of one forward and backward pass; of frozen weights without the gradients that nobody needs."""
        given = [map_tensors(value, to_meta) for value in arguments]
        named = {name: map_tensors(value, to_meta) for name, value in options.items()}
        with FlopCounterMode(display=False) as counter, torch.random.fork_rng():
            outputs = list(differentiable(self.twin(*given, **named)))
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        return counter.get_total_flops()


def to_meta(tensor: Tensor) -> Tensor:
    """Its shape alone; of one type for all numbers, since autocast does not reach there."""
    return tensor.detach().to("meta", torch.float32 if tensor.is_floating_point() else tensor.dtype)


class Recorded:
    """A model that remembers the arguments of its first call."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.called = model, False
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if not self.called:
            self.arguments, self.options, self.called = arguments, options, True
        return self.model(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def differentiable(value: Any) -> Iterator[Tensor]:
    """The tensors with gradients in what a model gives back."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            yield value
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from differentiable(entry)

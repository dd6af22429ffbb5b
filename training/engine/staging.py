"""Batches on their way to a GPU: pinned and copied by the thread that made them, while a step computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from .nested import map_tensors, tensors_in
from .objective import Batch


@dataclass(frozen=True)
class Staged:
    """A batch, on a GPU where there is one, and the event after which it is complete there."""

    batch: Batch
    copied: Any = None


class DeviceCopies:
    """Copies to one device; on a GPU on a stream of their own, so that they wait for no kernel of the step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, batch: Batch) -> Staged:
        """Begin to copy; from any thread."""
        if self.stream is None:
            return Staged(batch)
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            moved = map_tensors(batch, lambda tensor: tensor.pin_memory().to(self.device, non_blocking=True))
            event: Any = torch.cuda.Event()
            event.record()
        return Staged(moved, event)

    def finish(self, staged: Staged) -> Batch:
        """The batch on the device, for what is computed next on this thread's stream."""
        if staged.copied is None:
            return on_device(staged.batch, self.device)
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(staged.copied)
        for tensor in tensors_in(staged.batch):
            tensor.record_stream(stream)
        return staged.batch


def on_device(value: Any, device: torch.device) -> Any:
    """The tensors of a batch on `device`; on the CPU the value itself."""
    if device.type == "cpu":
        return value
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))

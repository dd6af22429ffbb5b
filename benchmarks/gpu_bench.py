"""How `python -m benchmarks.gpu` measures: where, how often, and what is given back to the card afterwards."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.harness import Work, device_peak, peak_growth, timed
from benchmarks.our_stages import Extent, Place


@dataclass(frozen=True)
class Bench:
    """How large, where and how often things are measured."""

    extent: Extent
    place: Place
    repeats: int

    @property
    def on_gpu(self) -> bool:
        return self.place.device == "cuda"

    def milliseconds(self, work: Work) -> float:
        """The median of `repeats` runs, after two that are not counted."""
        for _ in range(2):
            work()
        return statistics.median(timed(work, self.place.device).wall for _ in range(self.repeats)) * 1e3

    def gigabytes(self, work: Work) -> float | None:
        """By how much one run raises the memory in use."""
        megabytes = device_peak(work) if self.on_gpu else peak_growth(work)
        return None if megabytes is None else megabytes / 1e3

    def once(self, work: Work) -> tuple[float, float | None]:
        """Seconds and gigabytes of one run that is too long to repeat."""
        start = time.perf_counter()
        gigabytes = self.gigabytes(work)
        return time.perf_counter() - start, gigabytes


@dataclass(frozen=True)
class Measurement:
    """`run(bench)` gives the row's numbers; `seconds` is about what it takes on an H100, for the time budget."""

    table: str
    row: str
    run: Callable[[Bench], dict[str, Any]]
    seconds: float = 10.0


@contextmanager
def freed() -> Iterator[None]:
    """What is made inside is given back to the card."""
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

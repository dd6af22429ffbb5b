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
from fusionframes_core.kernels.kernel_choice import kernels_still_run


@dataclass(frozen=True)
class Bench:
    """How large, where and how often things are measured."""

    extent: Extent
    place: Place
    repeats: int

    @property
    def on_gpu(self) -> bool:
        return self.place.device == "cuda"

    @property
    def fused(self) -> bool:
        """Whether the fused kernels run here, and all that were called could be built."""
        return self.on_gpu and kernels_still_run(torch.empty(0, device=self.place.device).device, self.place.dtype)

    def milliseconds(self, work: Work) -> float:
        """The median of `repeats` runs, after two that are not counted."""
        for _ in range(2):
            timed(work, self.place.device)
        return statistics.median(timed(work, self.place.device).wall for _ in range(self.repeats)) * 1e3

    def gigabytes(self, work: Work) -> float | None:
        """By how much one run raises the memory in use."""
        megabytes = device_peak(work) if self.on_gpu else peak_growth(work)
        return None if megabytes is None else megabytes / 1e3

    def once(self, work: Work, short: Work) -> tuple[float, float | None]:
        """Seconds and gigabytes of one run that is too long to repeat, after a `short` one: kernels are built then."""
        timed(short, self.place.device)
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
    """What is made inside is given back to the card, also after a failure."""
    try:
        yield
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

"""How two ways of doing the same thing are compared: alternating runs for time, a fresh process each for memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

Work = Callable[[], Tensor]
Sides = tuple[Work, Work]
SIDES = ("ours", "baseline")
ROOT = Path(__file__).resolve().parents[1]
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Case:
    """One comparison. `build(small)` makes the inputs and gives (ours, baseline)."""

    name: str
    ours: str
    baseline: str
    build: Callable[[bool], Sides]
    tolerance: float | None  # largest difference of the two results over the largest value; None: they do differ
    memory: bool = False


@dataclass(frozen=True)
class Row:
    """What one case came to. Ratios are baseline / ours: above 1, ours is better."""

    name: str
    speed_ratio: float
    memory_ratio: float | None
    ours: str
    ours_seconds: float
    ours_mb: float | None
    baseline: str
    baseline_seconds: float
    baseline_mb: float | None
    difference: float | None


def difference(ours: Tensor, baseline: Tensor) -> float:
    """max |ours − baseline| / max |baseline|."""
    return ((ours - baseline).abs().max() / baseline.abs().max()).item()


@torch.inference_mode()
def compare(case: Case, repeats: int, small: bool) -> Row:
    """Run a case. Raises ArithmeticError when two results that should be equal are not."""
    works = case.build(small)
    results = [work() for work in works]
    apart = None if case.tolerance is None else difference(*results)
    if apart is not None and not apart <= case.tolerance:
        raise ArithmeticError(f"{case.name}: results differ by {apart:.1e}, more than {case.tolerance:.0e}")
    del results
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, taken in zip(works, seconds, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    ours, baseline = map(statistics.median, seconds)
    ours_mb, baseline_mb = (memory_of(case.name, side, small) if case.memory else None for side in SIDES)
    ratio = baseline_mb / max(ours_mb, 1.0) if ours_mb is not None and baseline_mb is not None else None
    return Row(case.name, baseline / ours, ratio, case.ours, ours, ours_mb, case.baseline, baseline, baseline_mb, apart)


def memory_of(case: str, side: str, small: bool) -> float | None:
    """MB by which one run of a side raises the peak of a fresh process; None where the system does not tell."""
    command = [sys.executable, "-m", "benchmarks", "--memory-of", case, side, *(["--small"] if small else [])]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(answer.stdout.splitlines()[-1])  # the code that is measured may print too


@torch.inference_mode()
def peak_growth(work: Work) -> float | None:
    """MB by which `work` raises this process's peak of resident memory; None without Linux's /proc.

    Not getrusage: its peak is inherited from the process that started this one.
    """
    if not STATUS.is_file():
        return None
    CLEAR_REFS.write_text("5")  # forget the peak so far
    before = status_mb("VmRSS")
    work()
    return max(status_mb("VmHWM") - before, 0.0)


def status_mb(name: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def table(rows: Sequence[Row]) -> str:
    """All rows as a Markdown table."""
    head = ["speed ×", "memory ×", "case", "ours", "baseline", "difference"]
    lines = [[_ratio(row.speed_ratio), _ratio(row.memory_ratio), row.name, *_sides(row)] for row in rows]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (head, rule, *lines)
    )


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in rows], indent=2)


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _sides(row: Row) -> tuple[str, str, str]:
    def cell(label: str, seconds: float, megabytes: float | None) -> str:
        return f"{label}: {seconds * 1000:.1f} ms" + ("" if megabytes is None else f", {megabytes:.0f} MB")

    return (
        cell(row.ours, row.ours_seconds, row.ours_mb),
        cell(row.baseline, row.baseline_seconds, row.baseline_mb),
        "other result" if row.difference is None else f"{row.difference:.0e}",
    )

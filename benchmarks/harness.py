"""How two ways of doing the same thing are compared: alternating runs for time, a fresh process each for memory.

The two sides take turns in one process, and the ratio is the median over the turns: what else the machine does then
slows both alike. Processor time is compared too, which a busy machine hardly changes.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Work = Callable[[], Tensor]
Sides = tuple[Work, Work]
SIDES = ("ours", "baseline")
ROOT = Path(__file__).resolve().parents[1]
FEWEST_REPEATS = 3  # that a budget of seconds cannot take away
# The measured process gives freed blocks back at once, so that its peak is what is alive at a time.
MEASURED = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
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
    device: str = "cpu"
    teraflop: float | None = None  # of one run of ours, for the share of the device's matrix rate


@dataclass(frozen=True)
class Row:
    """What one case came to. Ratios are baseline / ours: above 1, ours is better."""

    name: str
    speed_ratio: float
    processor_ratio: float | None
    memory_ratio: float | None
    ours: str
    ours_seconds: float
    ours_mb: float | None
    baseline: str
    baseline_seconds: float
    baseline_mb: float | None
    difference: float | None
    matrix_share: float | None = None


@dataclass(frozen=True)
class Turn:
    """What one run of one side took, in seconds; the processor's are of all threads, None on another device."""

    wall: float
    processor: float | None


def difference(ours: Tensor, baseline: Tensor) -> float:
    """max |ours − baseline| / max |baseline|."""
    return ((ours - baseline).abs().max() / baseline.abs().max()).item()


def operations(work: Work) -> int:
    """Operations of the products, convolutions and attention of one run."""
    counts = {torch.ops.aten.bmm: _product, torch.ops.aten.addmm_: lambda _, *factors, **__: _product(*factors)}
    with FlopCounterMode(display=False, custom_mapping=counts) as counter:
        work()
    return counter.get_total_flops()


def _product(left: Sequence[int], right: Sequence[int], *_: object, **__: object) -> int:
    """Of torch.bmm, whose own count in torch takes no `out_dtype`, and of addmm_, which has none."""
    return 2 * math.prod(left) * right[-1]


@torch.inference_mode()
def compare(case: Case, repeats: int, small: bool, seconds: float = math.inf) -> Row:
    """Run a case `repeats` times, or as often as `seconds` allow (but FEWEST_REPEATS).

    Raises ArithmeticError when two results that should be equal are not.
    """
    works = case.build(small)
    results = [work() for work in works]
    apart = None
    if case.tolerance is not None:
        apart = difference(*results)
        if not apart <= case.tolerance:  # nor is NaN
            raise ArithmeticError(f"{case.name}: results differ by {apart:.1e}, more than {case.tolerance:.0e}")
    del results
    turns: tuple[list[Turn], list[Turn]] = ([], [])
    start = time.perf_counter()
    for index in range(repeats):
        for side in (0, 1) if index % 2 == 0 else (1, 0):
            turns[side].append(timed(works[side], case.device))
        if time.perf_counter() - start > seconds and index + 1 >= FEWEST_REPEATS:
            break
    ours, baseline = (statistics.median(turn.wall for turn in side) for side in turns)
    memory = _memory(case, works, small)
    memory_ratio = memory[1] / max(memory[0], 1.0) if memory[0] is not None and memory[1] is not None else None
    return Row(
        case.name,
        statistics.median(theirs.wall / mine.wall for mine, theirs in zip(*turns, strict=True)),
        _processor_ratio(turns),
        memory_ratio,
        *(case.ours, ours, memory[0], case.baseline, baseline, memory[1], apart),
        case.teraflop / ours / matrix_rate(case.device) if case.teraflop and not small else None,
    )


def timed(work: Work, device: str) -> Turn:
    """One run, up to its last kernel."""
    on_cpu = device == "cpu"
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if not on_cpu:
        torch.cuda.synchronize()
    return Turn(time.perf_counter() - wall, time.process_time() - processor if on_cpu else None)


@cache
def matrix_rate(device: str, size: int = 8192) -> float:
    """TFLOP/s that the device reaches in a large product of bf16 matrices."""
    matrix = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    times = [timed(lambda: matrix @ matrix, device).wall for _ in range(10)]
    return 2 * size**3 / min(times) / 1e12


def _processor_ratio(turns: tuple[list[Turn], list[Turn]]) -> float | None:
    pairs = [(mine.processor, theirs.processor) for mine, theirs in zip(*turns, strict=True)]
    known = [theirs / max(mine, 1e-9) for mine, theirs in pairs if mine is not None and theirs is not None]
    return statistics.median(known) if known else None


def _memory(case: Case, works: Sides, small: bool) -> tuple[float | None, float | None]:
    if not case.memory:
        return None, None
    if case.device != "cpu":
        return device_peak(works[0]), device_peak(works[1])
    ours, baseline = (memory_of(case.name, side, small) for side in SIDES)
    return ours, baseline


def device_peak(work: Work) -> float:
    """MB by which one run raises the memory allocated on the GPU."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def memory_of(case: str, side: str, small: bool) -> float | None:
    """MB by which one run of a side raises the peak of a fresh process; None where the system does not tell."""
    command = [sys.executable, "-m", "benchmarks", "--memory-of", case, side, *(["--small"] if small else [])]
    environment = os.environ | MEASURED
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment)
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
    return int(line.split()[1]) * 1024 / 1e6


def table(rows: Sequence[Row]) -> str:
    """All rows as a Markdown table."""
    head = ["speed ×", "processor ×", "memory ×", "case", "ours", "baseline", "difference"]
    lines = [
        [*map(_ratio, (row.speed_ratio, row.processor_ratio, row.memory_ratio)), row.name, *_sides(row)] for row in rows
    ]
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

    share = "" if row.matrix_share is None else f", {row.matrix_share:.0%} of the matrix rate"
    return (
        cell(row.ours, row.ours_seconds, row.ours_mb) + share,
        cell(row.baseline, row.baseline_seconds, row.baseline_mb),
        "other result" if row.difference is None else f"{row.difference:.0e}",
    )

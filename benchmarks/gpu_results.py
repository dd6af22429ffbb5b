"""What the benchmarks of a GPU have in common: figures written down one by one, so that a run cut off goes on."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_bench import Bench, Measurement, freed


class Results:
    """Rows by table in a file of JSON lines: first what they were measured on, then one row a line."""

    def __init__(self, path: Path, setting: dict[str, Any], fresh: bool) -> None:
        """Raises ValueError when the file is of another card, torch or size, and `fresh` does not start it anew."""
        self.path = path
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        if fresh or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(setting) + "\n", encoding="utf-8")
        written = path.read_text(encoding="utf-8")
        whole = written[: written.rfind("\n") + 1]  # a run that was cut off may have left half a line
        if whole != written:
            path.write_text(whole, encoding="utf-8")
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines or lines[0] != setting:
            raise ValueError(f"--out must name results of {setting} (or use --fresh); got {path} of {lines[:1]}")
        for line in lines[1:]:
            self.rows.setdefault(line["table"], {})[line["row"]] = line["numbers"]

    def has(self, one: Measurement) -> bool:
        return one.row in self.rows.get(one.table, {})

    def add(self, one: Measurement, numbers: dict[str, Any]) -> None:
        """Write a row down at once."""
        self.rows.setdefault(one.table, {})[one.row] = numbers
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"table": one.table, "row": one.row, "numbers": numbers}) + "\n")


def run(bench: Bench, todo: Sequence[Measurement], results: Results, minutes: float) -> list[str]:
    """Measure what is not in the results yet; one line for each that failed or had no time left."""
    start, problems = time.perf_counter(), []
    for index, one in enumerate(todo):
        name = f"{one.table}, {one.row}"
        if results.has(one):
            continue
        if time.perf_counter() - start + (0 if bench.extent.small else one.seconds) > 60 * minutes:
            problems.append(f"no time left for {name}: run the same command again")
            continue
        print(f"{index + 1}/{len(todo)} {name}", file=sys.stderr, flush=True)
        with freed():  # around the failure's handling, whose error holds all that was made
            problems += _measured(bench, one, results)
    return problems


def _measured(bench: Bench, one: Measurement, results: Results) -> list[str]:
    """One more row; a line when that failed, or when the figure is not of the fused kernels."""
    name, before = f"{one.table}, {one.row}", bench.fused
    try:
        with torch.inference_mode():
            numbers = one.run(bench)
    except Exception as error:  # one failure, out of memory for instance, must not cost the other figures
        return [f"{name} failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"]
    after = bench.fused
    if bench.on_gpu:
        numbers["fused"] = float(after)
    results.add(one, numbers)
    return [f"{name}: a fused kernel failed, torch's own ran from then on (see the log)"] if before > after else []


def unfused(results: Results) -> list[str]:
    """One line that names the rows, if any, that a GPU computed without the fused kernels."""
    found = [(f"{table}, {row}", numbers) for table, rows in results.rows.items() for row, numbers in rows.items()]
    rows = [name for name, numbers in found if numbers.get("fused") == 0]
    return [f"without the fused kernels: {'; '.join(rows)}"] if rows else []


def setting_of(bench: Bench) -> dict[str, Any]:
    """What results must have in common."""
    card = torch.cuda.get_device_name() if bench.on_gpu else "CPU"
    kind = str(bench.place.dtype).removeprefix("torch.")
    return {"card": card, "torch": torch.__version__, "dtype": kind, "small": bench.extent.small}


def add_options(made: argparse.ArgumentParser, metavar: str, only: str) -> None:
    """The options that every such benchmark has; `only` says what its --only METAVAR may name."""
    made.add_argument("--small", action="store_true", help="small models, on a CPU too: checks that everything runs")
    made.add_argument("--minutes", type=float, default=8.0, help="no measurement is begun that would end later")
    made.add_argument(
        "--repeats", type=int, default=5, help="times that each is measured; the median counts (default 5)"
    )
    made.add_argument("--only", metavar=metavar, default="", help=only)
    made.add_argument("--out", type=Path, default=None, help="results, gone on with (default: a file in runs/)")
    made.add_argument("--fresh", action="store_true", help="forget earlier results")


def opened(options: argparse.Namespace, default: Path, setting: dict[str, Any]) -> Results:
    """The results that --out, or `default` by its size, names. Raises ValueError when they are of another setting."""
    path = options.out or (default.with_stem(f"{default.stem}_small") if options.small else default)
    return Results(path, setting, options.fresh)

"""`python -m benchmarks.gpu`: what a GPU does at full size, in one command of at most eight minutes.

Models have random weights, made on the card. Every result is written down as it is found, and a run that was cut off,
or that used up its minutes, goes on where it was. `--small` runs everything in small, on a CPU too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_bench import Bench, Measurement, freed
from benchmarks.gpu_measurements import COMFYUI_PATH, COMFYUI_PYTHON, measurements
from benchmarks.gpu_tables import markdown
from benchmarks.harness import ROOT
from benchmarks.official_stages import VARIABLE, work_trees
from benchmarks.our_stages import FULL, SMALL, Place

RESULTS = ROOT / "runs" / "gpu_benchmark.jsonl"


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
        try:
            with freed(), torch.inference_mode():
                results.add(one, one.run(bench))
        except Exception as error:  # one failure, out of memory for instance, must not cost the other figures
            problems.append(f"{name} failed: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
    return problems


def setting_of(bench: Bench) -> dict[str, Any]:
    """What results must have in common."""
    card = torch.cuda.get_device_name() if bench.on_gpu else "CPU"
    kind = str(bench.place.dtype).removeprefix("torch.")
    return {"card": card, "torch": torch.__version__, "dtype": kind, "small": bench.extent.small}


def hints() -> list[str]:
    """What would be measured too, and how."""
    missing = [] if work_trees() else [f"{VARIABLE} names the official work trees, to be timed in half precision"]
    if not (os.environ.get(COMFYUI_PATH) and os.environ.get(COMFYUI_PYTHON)):
        missing.append(f"{COMFYUI_PATH} and {COMFYUI_PYTHON} name a ComfyUI and its interpreter")
    return missing


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    made.add_argument(
        "--small", action="store_true", help="small models, float32 on a CPU: checks that everything runs"
    )
    made.add_argument("--minutes", type=float, default=8.0, help="no measurement is begun that would end later")
    made.add_argument("--repeats", type=int, default=5, help="timed runs; the median counts (default 5)")
    made.add_argument("--only", metavar="TABLE", default="", help="only one table: stages, video, memory, ...")
    made.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes a stage")
    made.add_argument("--out", type=Path, default=None, help=f"results, gone on with (default {RESULTS.name} in runs/)")
    made.add_argument("--fresh", action="store_true", help="forget earlier results")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 when something failed or no time was left; 2 for a bad argument."""
    options = parser().parse_args(arguments)
    gpu = torch.cuda.is_available()
    if not gpu and not options.small:
        print("error: no GPU: --small runs everything in small on the CPU", file=sys.stderr)
        return 2
    place = Place("cuda", torch.bfloat16) if gpu else Place("cpu", torch.float32)
    bench = Bench(SMALL if options.small else FULL, place, options.repeats)
    todo = [one for one in measurements(bench, options.compile) if options.only in one.table]
    if not todo or options.repeats < 1:
        problem = "--repeats must be at least 1" if todo else f"--only {options.only!r} names no table"
        print(f"error: {problem}", file=sys.stderr)
        return 2
    setting = setting_of(bench)
    try:
        results = Results(options.out or (RESULTS.with_stem(f"{RESULTS.stem}_small") if options.small else RESULTS),
                          setting, options.fresh)  # fmt: skip
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    problems = run(bench, todo, results, options.minutes)
    print(markdown(results.rows))
    rate = results.rows.get("card", {}).get("matrix product", {}).get("teraflops")
    print("\n" + ", ".join(f"{name} {value}" for name, value in setting.items()), end="")
    print("" if rate is None else f"; a large product runs at {rate:.3g} TFLOP/s")
    print("\n".join([*hints(), *problems]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

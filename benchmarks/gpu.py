"""`python -m benchmarks.gpu`: what a GPU does at full size, in one command of at most eight minutes.

Models have random weights, made on the card. Every result is written down as it is found, and a run that was cut off,
or that used up its minutes, goes on where it was. `--small` runs everything in small, on a CPU too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import torch

from benchmarks.gpu_bench import Bench
from benchmarks.gpu_measurements import COMFYUI_PATH, COMFYUI_PYTHON, measurements
from benchmarks.gpu_results import add_options, opened, run, setting_of, unfused
from benchmarks.gpu_tables import markdown
from benchmarks.harness import ROOT
from benchmarks.official_stages import VARIABLE, work_trees
from benchmarks.our_stages import FULL, SMALL, Place

RESULTS = ROOT / "runs" / "gpu_benchmark.jsonl"


def hints() -> list[str]:
    """What would be measured too, and how."""
    missing = [] if work_trees() else [f"{VARIABLE} names the official work trees, to be timed in half precision"]
    if not (os.environ.get(COMFYUI_PATH) and os.environ.get(COMFYUI_PYTHON)):
        missing.append(f"{COMFYUI_PATH} and {COMFYUI_PYTHON} name a ComfyUI and its interpreter")
    return missing


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    made.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes a stage")
    add_options(made, "TABLE", "only one table: stages, video, memory, ...")
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
        results = opened(options, RESULTS, setting)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.manual_seed(0)
    problems = run(bench, todo, results, options.minutes)
    print(markdown(results.rows))
    rate = results.rows.get("card", {}).get("matrix product", {}).get("teraflops")
    print("\n" + ", ".join(f"{name} {value}" for name, value in setting.items()), end="")
    print("" if rate is None else f"; a large product runs at {rate:.3g} TFLOP/s")
    print("\n".join([*hints(), *unfused(results), *problems]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

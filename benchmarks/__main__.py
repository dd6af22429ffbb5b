"""`python -m benchmarks`: run the comparisons and print one table, ratios first."""

from __future__ import annotations

import argparse
import json
import sys

import torch

from benchmarks.cases import CASES
from benchmarks.harness import SIDES, Case, as_json, compare, peak_growth, table


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description="Side-by-side benchmarks.")
    made.add_argument("--only", metavar="TEXT", default="", help="only cases whose name contains TEXT")
    made.add_argument("--repeats", type=int, default=5, help="timed runs of each side; the median counts (default 5)")
    made.add_argument("--small", action="store_true", help="small inputs: checks that all cases run")
    made.add_argument("--json", action="store_true", help="print JSON instead of a table")
    made.add_argument("--memory-of", nargs=2, metavar=("CASE", "SIDE"), help=argparse.SUPPRESS)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0, or 1 when two results that should be equal are not, or 2 for a bad argument."""
    options = parser().parse_args(arguments)
    torch.manual_seed(0)
    if options.memory_of:
        name, side = options.memory_of
        work = _named(name).build(options.small)[SIDES.index(side)]
        print(json.dumps(peak_growth(work)))
        return 0
    chosen = [case for case in CASES if options.only in case.name]
    if options.repeats < 1 or not chosen:
        problem = "--repeats must be at least 1" if options.repeats < 1 else f"--only {options.only!r} names no case"
        print(f"error: {problem}", file=sys.stderr)
        return 2
    try:
        rows = [compare(case, options.repeats, options.small) for case in chosen]
    except ArithmeticError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(as_json(rows) if options.json else table(rows))
    if not options.json:
        print(
            f"\nratios are baseline / ours; torch {torch.__version__}, {torch.get_num_threads()} threads, CPU, float32"
        )
    return 0


def _named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks`: run the comparisons and print one table, ratios first."""

from __future__ import annotations

import argparse
import json
import sys

import torch

from benchmarks.cases import CASES
from benchmarks.harness import SIDES, Case, as_json, compare, peak_growth, table
from benchmarks.official import VARIABLE, work_trees

HINT = f"{VARIABLE} names the official work trees for the comparison with them"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description="Side-by-side benchmarks.")
    made.add_argument("--only", metavar="TEXT", default="", help="only cases whose name contains TEXT")
    made.add_argument("--repeats", type=int, default=7, help="timed runs of each side; the median counts (default 7)")
    made.add_argument("--seconds", type=float, default=20.0, help="for the runs of one case, about (default 20)")
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
        print(json.dumps(_peak(_named(name), SIDES.index(side), options.small)))
        return 0
    chosen = [case for case in CASES if options.only in case.name]
    if options.repeats < 1 or not chosen:
        problem = "--repeats must be at least 1" if options.repeats < 1 else f"--only {options.only!r} names no case"
        print(f"error: {problem}", file=sys.stderr)
        return 2
    rows, wrong = [], []
    for index, case in enumerate(chosen):
        print(f"{index + 1}/{len(chosen)} {case.name}", file=sys.stderr, flush=True)
        try:
            rows.append(compare(case, options.repeats, options.small, options.seconds))
        except ArithmeticError as error:
            wrong.append(f"error: {error}")
    print(as_json(rows) if options.json else table(rows))
    if not options.json:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        print(f"\nratios are baseline / ours; torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
        print("float32 on the CPU where the case does not say otherwise" + ("" if work_trees() else f"; {HINT}"))
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def _peak(case: Case, side: int, small: bool) -> float | None:
    """Memory of one run; a small run before it brings in what every first run brings in (libraries, threads)."""
    with torch.inference_mode():
        case.build(True)[side]()
    work = case.build(small)[side]
    return peak_growth(work)


def _named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


if __name__ == "__main__":
    sys.exit(main())

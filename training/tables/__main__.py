"""`python -m training.tables`: make the runs that are missing and write RESULTS.md.

Exit codes: 0 done; 2 bad input or a training that failed, one sentence on stderr; 130 interrupted (the same command
goes on).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from fusionframes_core.files import atomic_path, home_path

from ..engine.command_line import BadInput, check_output, check_positive, exit_code
from .render import render
from .runs import Budget, Table, make_runs
from .sweeps import GUIDANCE, SKIP
from .trained import CONDITIONING, DECODER, INTERPOLATION

TABLES: dict[str, Table] = {table.name: table for table in (CONDITIONING, INTERPOLATION, DECODER, SKIP, GUIDANCE)}


def make_parser() -> argparse.ArgumentParser:
    """Every budget is an option."""
    parser = argparse.ArgumentParser(prog="python -m training.tables", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", nargs="+", choices=tuple(TABLES), default=list(TABLES), metavar="TABLE")
    parser.add_argument("--rows", action="append", default=[], metavar="ROW", help="only this row; may be repeated")
    parser.add_argument("--out", type=home_path, default=Path("RESULTS.md"))
    parser.add_argument("--write", action="store_true", help="make no run, write the page from those that are there")
    parser.add_argument("--threads", type=int)
    for field in fields(Budget):
        option, default = "--" + field.name.replace("_", "-"), field.default
        kind = type(default) if not isinstance(default, tuple) else int
        parser.add_argument(option, type=kind, default=default, nargs="+" if isinstance(default, tuple) else None)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the tables and return the exit code."""
    arguments = make_parser().parse_args(argv)
    return exit_code(lambda: _run(arguments), "the same command goes on where it was")


def _run(arguments: argparse.Namespace) -> None:
    values = {field.name: getattr(arguments, field.name) for field in fields(Budget)}
    budget = Budget(**{**values, "seeds": tuple(arguments.seeds)})
    for name, value in values.items():
        check_positive(value if isinstance(value, int) else None, f"--{name.replace('_', '-')}")
    if any(seed < 0 for seed in budget.seeds):
        raise BadInput(f"--seeds must be at least 0; got {min(budget.seeds)}")
    rows = {row.name for table in TABLES.values() for row in table.rows(budget)}
    unknown = sorted(set(arguments.rows) - rows)
    if unknown:
        raise BadInput(f"--rows must name rows of the tables ({', '.join(sorted(rows))}); got {unknown[0]!r}")
    check_output(arguments.out, "--out")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    for name in () if arguments.write else arguments.only:
        make_runs(TABLES[name], budget, arguments.rows)
    before = arguments.out.read_text("utf-8") if arguments.out.is_file() else ""
    with atomic_path(arguments.out) as partial:
        partial.write_text(render(list(TABLES.values()), budget, before), "utf-8")


if __name__ == "__main__":
    sys.exit(main())

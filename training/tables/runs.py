"""One run is one row with one seed. Its figures are a line of the table's JSONL file, so that tables can be resumed."""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..engine.durable_files import append_line

RowFigures = dict[str, float]
Summary = dict[str, dict[str, tuple[float, float]]]
"""Row → figure → mean and deviation over the seeds."""


@dataclass(frozen=True)
class Budget:
    """What every row of a table gets alike."""

    seeds: tuple[int, ...] = (0, 1, 2)
    clips: int = 16  # of the sweeps and of the decoders' measurement
    prompts: int = 200
    training_clips: int = 3000
    keyframe_steps: int = 2000
    interpolation_steps: int = 1000
    decoder_steps: int = 500
    model: str = "tiny"
    folder: Path = Path("runs/tables")


@dataclass(frozen=True)
class Row:
    """`measure(seed)` makes the figures; `missing` says why it cannot (the row is shown all the same)."""

    name: str
    measure: Callable[[int], RowFigures]
    missing: str = ""


@dataclass(frozen=True)
class Table:
    """`columns` figure → heading; `budget` names the fields of Budget that its runs depend on."""

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    budget: tuple[str, ...]
    rows: Callable[[Budget], list[Row]]
    verdict: Callable[[Summary], list[str]]
    digits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A finished run; `settings` is the budget that it was made with."""

    row: str
    seed: int
    settings: dict[str, Any]
    figures: RowFigures


def run_settings(table: Table, budget: Budget) -> dict[str, Any]:
    """The part of a budget that a table's runs depend on."""
    return {name: getattr(budget, name) for name in table.budget}


def runs_file(table: Table, folder: Path) -> Path:
    """The JSONL file of a table's runs, of every budget."""
    return folder / f"{table.name}.jsonl"


def read_runs(table: Table, folder: Path) -> list[Run]:
    """A table's finished runs; a line that a kill or a full disk has cut off is left out."""
    path = runs_file(table, folder)
    runs = []
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        try:
            runs.append(Run(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return runs


def find_figures(runs: Sequence[Run], settings: Mapping[str, Any], row: str, seed: int) -> RowFigures | None:
    """The figures of a row and seed made with these settings, or None."""
    for run in runs:
        if (run.row, run.seed, run.settings) == (row, seed, settings):
            return run.figures
    return None


def stored_budget(table: Table, budget: Budget) -> Budget | None:
    """The budget of a table's stored runs, with the seeds that every row of it has; None: no runs.

    It is `budget` where it has a complete seed, and else the one that most runs with a complete seed were made with.
    """
    runs = read_runs(table, budget.folder)
    if not runs:
        return None
    counts = collections.Counter(json.dumps(run.settings, sort_keys=True) for run in runs)
    common = [dataclasses.replace(budget, **json.loads(settings)) for settings, _ in counts.most_common()]
    for candidate in (budget, *common):
        settings = run_settings(table, candidate)
        rows = [row.name for row in table.rows(candidate) if not row.missing]
        seeds = [
            seed
            for seed in sorted({run.seed for run in runs})
            if all(find_figures(runs, settings, name, seed) is not None for name in rows)
        ]
        if seeds:
            return dataclasses.replace(candidate, seeds=tuple(seeds))
    return common[0]


def make_runs(table: Table, budget: Budget, chosen: Sequence[str] = ()) -> None:
    """Make the runs that are not there yet, of the rows `chosen` or of all."""
    settings = run_settings(table, budget)
    for row in table.rows(budget):
        for seed in () if row.missing or (chosen and row.name not in chosen) else budget.seeds:
            if find_figures(read_runs(table, budget.folder), settings, row.name, seed) is None:
                print(f"{table.name}: {row.name}, seed {seed}", flush=True)
                run = Run(row.name, seed, settings, row.measure(seed))
                append_line(runs_file(table, budget.folder), json.dumps(asdict(run), ensure_ascii=False))


def summary(table: Table, budget: Budget) -> Summary:
    """Means and deviations of the rows that have all of the budget's seeds."""
    runs, settings = read_runs(table, budget.folder), run_settings(table, budget)
    rows = {}
    for row in table.rows(budget):
        figures = [find_figures(runs, settings, row.name, seed) for seed in budget.seeds]
        complete = [entry for entry in figures if entry is not None]
        if len(complete) == len(figures):
            rows[row.name] = {name: mean_and_deviation([entry[name] for entry in complete]) for name in complete[0]}
    return rows


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Mean and sample deviation (0 for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def budget_text(table: Table, budget: Budget) -> str:
    """A budget as the page shows it: `seeds 0, 1, 2; clips 16, model tiny`."""
    values = {name: value for name, value in asdict(budget).items() if name in table.budget}
    text = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())
    return f"seeds {', '.join(map(str, budget.seeds))}; {text}"

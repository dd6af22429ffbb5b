"""One run is one row with one seed. Its figures are a JSON file, so that tables go on where they stopped."""

from __future__ import annotations

import collections
import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..engine.durable_files import write_json

Figures = dict[str, float]
SEEDS = range(100)  # that are looked for


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
    measure: Callable[[int], Figures]
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
    verdict: Callable[[dict[str, dict[str, tuple[float, float]]]], list[str]]
    digits: Mapping[str, int] = field(default_factory=dict)


def run_settings(table: Table, budget: Budget) -> dict[str, Any]:
    """What a stored run was made with."""
    return {name: getattr(budget, name) for name in table.budget}


def run_path(table: Table, budget: Budget, row: str, seed: int) -> Path:
    """Where a run's figures are; runs of other budgets have files of their own."""
    told = [f"{value}_{name}" for name, value in run_settings(table, budget).items()]
    name = "_".join((row.replace(" ", "_").replace(",", ""), *told, f"seed_{seed}"))
    return budget.folder / table.name / f"{name}.json"


def read_run(table: Table, budget: Budget, row: str, seed: int) -> Figures | None:
    """The figures of a finished run of this budget, or None."""
    path = run_path(table, budget, row, seed)
    if not path.is_file():
        return None
    stored = json.loads(path.read_text("utf-8"))
    return stored["figures"] if stored["settings"] == run_settings(table, budget) else None


def stored_budget(table: Table, budget: Budget) -> Budget | None:
    """The budget of a table's stored runs, with the seeds that every row of it has; None: no runs.

    It is `budget` where that has whole seeds, and else what the most runs with whole seeds were made with.
    """
    stored = [json.loads(path.read_text("utf-8"))["settings"] for path in (budget.folder / table.name).glob("*.json")]
    if not stored:
        return None
    counts = collections.Counter(json.dumps(settings, sort_keys=True) for settings in stored)
    common = [dataclasses.replace(budget, **json.loads(settings)) for settings, _ in counts.most_common()]
    for found in (budget, *common):
        rows = [row.name for row in table.rows(found) if not row.missing]
        seeds = [seed for seed in SEEDS if all(read_run(table, found, name, seed) is not None for name in rows)]
        if seeds:
            return dataclasses.replace(found, seeds=tuple(seeds))
    return common[0]


def make_runs(table: Table, budget: Budget, chosen: Sequence[str] = ()) -> None:
    """Make the runs that are not there yet, of the rows `chosen` or of all."""
    for row in table.rows(budget):
        for seed in () if row.missing or (chosen and row.name not in chosen) else budget.seeds:
            if read_run(table, budget, row.name, seed) is None:
                print(f"{table.name}: {row.name}, seed {seed}", flush=True)
                figures = row.measure(seed)
                path = run_path(table, budget, row.name, seed)
                write_json(path, {"settings": run_settings(table, budget), "figures": figures})


def summary(table: Table, budget: Budget) -> dict[str, dict[str, tuple[float, float]]]:
    """Row → figure → mean and deviation over the seeds, of the rows that have them all."""
    found = {}
    for row in table.rows(budget):
        runs = [read_run(table, budget, row.name, seed) for seed in budget.seeds]
        whole = [run for run in runs if run is not None]
        if len(whole) == len(runs):
            found[row.name] = {name: spread([run[name] for run in whole]) for name in whole[0]}
    return found


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and sample deviation (0 for one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def budget_text(table: Table, budget: Budget) -> str:
    """`3 seeds; clips 16, model tiny`."""
    fields = {name: value for name, value in asdict(budget).items() if name in table.budget}
    told = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fields.items())
    return f"seeds {', '.join(map(str, budget.seeds))}; {told}"

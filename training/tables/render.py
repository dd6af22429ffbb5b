"""RESULTS.md from the stored runs."""

from __future__ import annotations

from collections.abc import Sequence

from ..evaluation.reports import markdown
from .runs import Budget, Table, budget_text, stored_budget, summary

INTRODUCTION = """# Results

The paper's tables in small, on Moving Shapes and at equal budgets: `make tables` (`python -m training.tables`) trains,
measures and writes this page; `--only` chooses tables, and budgets are options. Figures are mean ± deviation over the
seeds. What is not here was not run. These are figures of a model of a few million parameters on drawn shapes: they say
where the paper's order comes out at this size, not more.
"""

ONE_SEED = "One seed was run: how much of the differences is chance is not known."


def render(tables: Sequence[Table], budget: Budget, before: str = "") -> str:
    """The whole page; a table without runs keeps what the page `before` says of it."""
    previous = {part.partition("\n")[0]: "## " + part.rstrip("\n") + "\n" for part in before.split("\n## ")[1:]}
    sections = []
    for table in tables:
        stored = stored_budget(table, budget)
        section = render_table(table, stored or budget)
        sections.append(section if stored else previous.get(table.title, section))
    return "\n".join([INTRODUCTION, *sections])


def render_table(table: Table, budget: Budget) -> str:
    """One table with its budget and its verdict; "not run" where runs are missing."""
    means = summary(table, budget)
    rows = []
    for row in table.rows(budget):
        if row.name in means:
            figures = means[row.name]
            rows.append([row.name, *(_cell(table, name, *figures[name]) for name in table.columns)])
        else:
            rows.append([row.name, row.missing or "not run", *[""] * (len(table.columns) - 1)])
    lines = [f"## {table.title}", "", table.about, "", f"Budget: {budget_text(table, budget)}.", ""]
    lines.append(markdown(["", *table.columns.values()], rows))
    verdict = table.verdict(means)
    if verdict and len(budget.seeds) == 1:
        verdict = [ONE_SEED, *verdict]
    return "\n".join([*lines, *(f"- {sentence}" for sentence in verdict), *([""] if verdict else [])])


def _cell(table: Table, name: str, mean: float, deviation: float) -> str:
    digits = table.digits.get(name, 2)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}" if deviation else f"{mean:.{digits}f}"

"""Several JSON reports side by side: a Markdown table and a plot of every figure."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fusionframes_core.files import atomic_path, home_path

from ..engine.command_line import BadInput

LEFT_OUT = {"settings", "seed", "clips", "wanted", "rows", "by_motion", "skip_frames", "frames_apart", "noise"}


def figures_of(report: dict[str, Any]) -> dict[str, float]:
    """The figures of a report by name, nested ones with slashes."""
    return dict(_leaves(report.get("figures", report), ""))


def _leaves(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in content.items():
        if name in LEFT_OUT:
            continue
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def read_reports(paths: Sequence[Path]) -> dict[str, dict[str, float]]:
    """File name → its figures; where two files have one name, whole path → figures. Raises BadInput."""
    stems, reports = Counter(path.stem for path in paths), {}
    for path in paths:
        try:
            name = path.stem if stems[path.stem] == 1 else path.with_suffix("").as_posix()
            reports[name] = figures_of(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise BadInput(f"{path} must be a report of training.evaluate --json") from error
    return reports


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; the first column is text, the others figures."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def plot(reports: dict[str, dict[str, float]], names: Sequence[str], path: Path) -> None:
    """Bars of the figures `names`, one panel each."""
    from matplotlib.figure import Figure

    rows = (len(names) + 2) // 3
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    for panel, name in zip(figure.subplots(rows, 3, squeeze=False).flat, names, strict=False):
        shown = {report: figures[name] for report, figures in reports.items() if name in figures}
        panel.barh(list(shown), list(shown.values()))
        panel.set_title(name, fontsize=9)
    for panel in figure.axes[len(names) :]:
        panel.set_axis_off()
    with atomic_path(path) as partial:
        figure.savefig(partial)


def report(arguments: argparse.Namespace) -> None:
    """Put JSON reports side by side: a Markdown table and, with --plot, bars."""
    reports = read_reports(arguments.reports)
    names = list(dict.fromkeys(name for figures in reports.values() for name in figures))
    if not names:
        raise BadInput(f"reports must hold figures; {', '.join(map(str, arguments.reports))} hold none")
    names = chosen(names, arguments.only)
    rows = [[name, *(figures.get(name, "") for figures in reports.values())] for name in names]
    table = markdown(["", *reports], rows)
    print(table)
    if arguments.markdown is not None:
        with atomic_path(arguments.markdown) as partial:
            partial.write_text(table, "utf-8")
    if arguments.plot is not None:
        plot(reports, names, arguments.plot)


def chosen(names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """Those of `names` that have one of `only` as first or last parts. Raises BadInput for one that no name has."""
    if only is None:
        return list(names)
    for part in only:
        if not any(has_part(name, part) for name in names):
            raise BadInput(f"--only must name figures of the reports, such as {', '.join(names[:3])}; got {part!r}")
    return [name for name in names if any(has_part(name, part) for part in only)]


def has_part(name: str, part: str) -> bool:
    """Whether `part` begins or ends the name, at its slashes: psnr and latents/true do with latents/true/psnr."""
    return f"{name}/".startswith(f"{part}/") or f"/{name}".endswith(f"/{part}")


def add_commands(commands: Any) -> None:
    """`python -m training.evaluate report A.json B.json`."""
    command = commands.add_parser("report", help=report.__doc__, allow_abbrev=False)
    command.add_argument("reports", type=home_path, nargs="+", metavar="FILE.json")
    command.add_argument(
        "--only", nargs="+", metavar="NAME", help="figures whose names begin or end so, such as psnr or latents/true"
    )
    command.add_argument("--markdown", type=home_path, metavar="FILE.md")
    command.add_argument("--plot", type=home_path, metavar="FILE.png", help="or .svg, .pdf")
    command.set_defaults(run=report)

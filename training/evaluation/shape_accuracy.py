"""Does the video show what the prompt says? Generate keyframes, measure them, count what is right."""

from __future__ import annotations

import collections
import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..engine.command_line import BadInput
from ..moving_shapes import steadiness
from ..moving_shapes.measure import measure_track
from ..moving_shapes.prompts_file import ATTRIBUTES, Prompt
from ..moving_shapes.track import track
from .video_metrics import print_table, wilson

# What the model card has to reach (right share of the prompts that ask for the attribute).
WANTED = {"colour": 1.0, "motion": 0.98, "shape": 0.98}

# How the figures of `steadiness.summary` are printed: factor, unit, and what is wanted.
STEADY = {
    "background_step": (1.0, "levels", "≤ 1"),
    "background_worst_step": (1.0, "levels", ""),
    "background_wander": (1.0, "levels", "≤ 4"),
    "background_worst_wander": (1.0, "levels", ""),
    "frames_of_shape": (100.0, "%", ""),
    "frames_of_shape_spinning": (100.0, "%", "≥ 95"),
    "circle_size": (100.0, "%", "< 3"),
    "circle_worst_size": (100.0, "%", ""),
    "circle_outline": (100.0, "%", ""),
}

Generate = Callable[[list[str], int], NDArray[np.uint8]]
"""(prompts, seed of the first; the next has seed + 1 …) → videos uint8 (B, T, H, W, 3)."""


def score_shapes(prompts: Sequence[Prompt], videos: Iterable[NDArray[np.uint8]]) -> dict[str, Any]:
    """Measure one video uint8 (T, H, W, 3) for every prompt and summarise. Raises ValueError for unequal counts."""
    return summarise([score_row(prompt, video) for prompt, video in zip(prompts, videos, strict=True)])


def score_row(prompt: Prompt, video: NDArray[np.uint8]) -> dict[str, Any]:
    """What the prompt asks for, what the video shows, and which of it is right (None: not asked for)."""
    seen = track(video)
    measurement = measure_track(seen)
    asked = {name: getattr(prompt, name) for name in ATTRIBUTES}
    shown = {name: getattr(measurement, name) for name in ATTRIBUTES}
    right = {name: None if asked[name] is None else asked[name] == shown[name] for name in ATTRIBUTES}
    scores = {key: round(value, 4) for key, value in measurement.scores.items()}
    steady = steadiness.steadiness(video, seen, prompt.shape, prompt.motion)
    figures = {"scores": scores, "steadiness": {key: round(value, 4) for key, value in steady.items()}}
    return {"prompt": prompt.prompt, "asked": asked, "shown": shown, "right": right, **figures}


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracies, accuracies by motion and by shape, confusions, steadiness, and the rows themselves."""
    return {
        "count": len(rows),
        "accuracy": {name: _share(row["right"][name] for row in rows) for name in ATTRIBUTES},
        "all_right": _share(_all_right(row) for row in rows),
        "by_motion": _by(rows, "motion"),
        "by_shape": _by(rows, "shape"),
        "confusion": {name: _confusion(rows, name) for name in ATTRIBUTES},
        "steadiness": steadiness.summary([(row["asked"]["motion"], row["steadiness"]) for row in rows]),
        "wanted": WANTED,
        "reached": all(_share(row["right"][name] for row in rows)["share"] >= least for name, least in WANTED.items()),
        "rows": list(rows),
    }


def _all_right(row: dict[str, Any]) -> bool:
    """Nothing among colour, shape and motion is wrong."""
    return all(row["right"][name] is not False for name in WANTED)


def _share(answers: Iterable[bool | None]) -> dict[str, Any]:
    counted = [answer for answer in answers if answer is not None]
    right, total = sum(counted), len(counted)
    share = right / total if total else 0.0
    return {"right": right, "of": total, "share": share, "interval": list(wilson(right, total))}


def _by(rows: Sequence[dict[str, Any]], attribute: str) -> dict[str, Any]:
    values = sorted({row["asked"][attribute] for row in rows} - {None})
    groups = {value: [row for row in rows if row["asked"][attribute] == value] for value in values}
    return {
        value: {name: _share(row["right"][name] for row in group) for name in ATTRIBUTES}
        for value, group in groups.items()
    }


def _confusion(rows: Sequence[dict[str, Any]], name: str) -> dict[str, dict[str, int]]:
    """asked → shown → count."""
    counts: dict[str, collections.Counter[str]] = {}
    for row in rows:
        if row["asked"][name] is not None:
            counts.setdefault(row["asked"][name], collections.Counter())[str(row["shown"][name])] += 1
    return {asked: dict(shown.most_common()) for asked, shown in sorted(counts.items())}


@dataclasses.dataclass(frozen=True)
class ShapesRun:
    """How a run generates; `settings` is compared before a run is resumed."""

    generate: Generate
    settings: dict[str, Any]
    seed: int = 0
    batch: int = 10


def run_shapes(
    prompts: Sequence[Prompt],
    run: ShapesRun,
    partial: Path | None = None,
    resume: bool = False,
    on_video: Callable[[int, dict[str, Any], NDArray[np.uint8]], None] | None = None,
) -> dict[str, Any]:
    """Generate and measure every prompt, the i-th with seed `run.seed + i`, and return the report.

    Rows go to the file `partial` as they come; with `resume` those of an interrupted run are taken from there. Raises
    BadInput when that run had other settings.
    """
    rows = _start(partial, run.settings, resume)[: len(prompts)]
    started, done = time.perf_counter(), len(rows)
    with tqdm(total=len(prompts), initial=done, desc="videos", mininterval=5) as bar:
        while len(rows) < len(prompts):
            first = len(rows)
            batch = list(prompts[first : first + run.batch])
            videos = run.generate([prompt.prompt for prompt in batch], run.seed + first)
            new = [score_row(prompt, video) for prompt, video in zip(batch, videos, strict=True)]
            for index, (row, video) in enumerate(zip(new, videos, strict=True)):
                if on_video is not None:
                    on_video(first + index, row, video)
            rows.extend(new)
            _append(partial, new)
            bar.update(len(new))
    seconds = (time.perf_counter() - started) / max(1, len(rows) - done)
    return {"settings": run.settings, "seconds_per_video": seconds, **summarise(rows)}


def _start(partial: Path | None, settings: dict[str, Any], resume: bool) -> list[dict[str, Any]]:
    """The rows of an interrupted run, or a fresh file that names this run's settings."""
    if partial is None:
        return []
    if resume and partial.is_file():
        lines = partial.read_text("utf-8").splitlines()
        if not lines or json.loads(lines[0]) != json.loads(json.dumps(settings)):
            raise BadInput(f"--resume needs the settings of the interrupted run, which {partial} names")
        return [json.loads(line) for line in lines[1:]]
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(json.dumps(settings) + "\n", "utf-8")
    return []


def _append(partial: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    if partial is not None:
        with open(partial, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def print_shapes(report: dict[str, Any]) -> None:
    """Print the report as three tables."""
    rows = []
    for name in ("colour", "motion", "shape", "size", "speed"):
        entry = report["accuracy"][name]
        low, high = entry["interval"]
        wanted = f"≥ {100 * WANTED[name]:.0f} %" if name in WANTED else ""
        figures = (f"{entry['right']} / {entry['of']}", f"{100 * entry['share']:.1f} %")
        rows.append((name, *figures, f"{100 * low:.0f}–{100 * high:.0f} %", wanted))
    entry = report["all_right"]
    rows.append(("all three", f"{entry['right']} / {entry['of']}", f"{100 * entry['share']:.1f} %", "", ""))
    print_table(f"{report['count']} prompts", ("attribute", "right", "share", "95 % interval", "wanted"), rows)
    motions = []
    for motion, shares in report["by_motion"].items():
        shown = ", ".join(f"{name} {count}" for name, count in report["confusion"]["motion"][motion].items())
        cells = [f"{shares[name]['right']}/{shares[name]['of']}" for name in ("motion", "shape", "colour")]
        motions.append((motion, *cells, shown))
    print_table("by motion", ("asked", "motion", "shape", "colour", "motions shown"), motions)
    steady = []
    for name, value in report["steadiness"].items():
        factor, unit, wanted = STEADY[name]
        steady.append((name.replace("_", " "), f"{factor * value:.1f} {unit}", wanted))
    print_table("steadiness", ("figure", "value", "wanted"), steady)

"""The report of a prepared folder: what it holds, which rates came in, and every video that was skipped, with why.

Beside it lies what the empty caption became.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from fusionframes_core.checkpoints.state_dict import read_weights
from fusionframes_core.errors import CheckpointError

from .chunk_index import read_indexes
from .items import SAME_RATE, DataError, Found, Rate
from .resuming import read_object

REPORT, NULL = "report.json", "null.safetensors"
AGAIN = "prepare it again with the same command, which keeps its chunks"
COUNTS = ("chunks", "videos", "clips", "frames")
JOINED = (*COUNTS, "rates", "stored_rates", "notes", "captions", "skipped")  # what a report of today has
EXAMPLES = 20  # captions that are shown with what the text encoder said of them


def read_report(folder: Path, found: Found) -> dict[str, Any]:
    """What the chunks in `folder` hold.

    `rates`: how many of the videos came at which rate of their own; `stored_rates`: how many clips have which;
    `captions`: how many have words that the text encoder does not know, or were cut, and the first of them.
    """
    indexes = read_indexes(folder)
    clips = [clip for index in indexes for clip in index.summary["clips"]]
    used = [entry for index in indexes for entry in index.entries.values() if not entry.why]
    skipped = [*found.skipped, *(tuple(entry) for index in indexes for entry in index.summary["skipped"])]
    said = [{"video": entry.key, "said": text} for entry in used for texts in entry.said.values() for text in texts]
    stored = _counted(Rate(clip["fps"]) for clip in clips)
    return {
        "chunks": len(indexes),
        "videos": sum(index.summary["videos"] for index in indexes),
        "clips": len(clips),
        "frames": sum(clip["frames"] for clip in clips),
        "rates": _counted(Rate(entry.rate, entry.varies) for entry in used if entry.rate),
        "stored_rates": stored,
        "notes": [*found.notes, *_notes(stored)],
        "captions": {"count": len(said), "first": said[:EXAMPLES]},
        "skipped": [{"video": video, "why": why} for video, why in skipped],
    }


def stored_report(folder: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The report that lies in `folder`. Raises DataError unless it is a JSON object that has what is `needed`."""
    path = folder / REPORT
    content = read_object(path, f": {AGAIN}")
    missing = [name for name in needed if name not in content]
    if missing:
        raise DataError(f"{path} does not say {', '.join(missing)}: {AGAIN}")
    return content


def stored_null(folder: Path) -> Tensor | None:
    """The null embedding (N, D) that lies in `folder`; None where the file is missing or not whole."""
    try:
        return read_weights(folder / NULL).get("text")
    except CheckpointError:
        return None


def joined(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report of parts as of one data set."""
    stored = dict(sum((Counter(report["stored_rates"]) for report in reports), Counter()))
    said = [entry for report in reports for entry in report["captions"]["first"]]
    mixed = {note for report in reports for note in _notes(report["stored_rates"])}
    notes = dict.fromkeys(note for report in reports for note in report["notes"] if note not in mixed)
    return {
        **{name: sum(report[name] for report in reports) for name in COUNTS},
        "rates": _sorted(sum((Counter(report["rates"]) for report in reports), Counter())),
        "stored_rates": _sorted(stored),
        "notes": [*notes, *_notes(stored)],
        "captions": {"count": sum(report["captions"]["count"] for report in reports), "first": said[:EXAMPLES]},
        "skipped": [entry for report in reports for entry in report["skipped"]],
        "parts": len(reports),
        **{name: reports[0][name] for name in ("text", "movq") if name in reports[0]},
    }


def _notes(stored: dict[str, int]) -> list[str]:
    """What to tell of clips with these rates."""
    rates = sorted(map(float, stored))
    if not rates or rates[0] >= rates[-1] * SAME_RATE:
        return []
    return [
        f"clips have {rates[0]:.5g} to {rates[-1]:.5g} FPS: frames are drawn by time, not by number; "
        "--fps brings all clips to one rate"
    ]


def _counted(rates: Iterable[Rate]) -> dict[str, int]:
    return _sorted(Counter(map(str, rates)))


def _sorted(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: float(pair[0].split()[0])))

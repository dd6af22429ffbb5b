"""A data set that several jobs share: which part is whose, where it lies, and the whole made of the parts."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionframes_core.files import atomic_path

from ..engine.durable_files import write_json
from .chunk_index import chunk_files
from .data_report import AGAIN, JOINED, NULL, REPORT, joined, stored_null, stored_report
from .items import DataError, Found, Item, chunked
from .resuming import read_settings

FORM = re.compile(r"(\d+)/(\d+)")
PART_NAME = "part_{:04d}_of_{:04d}"
PART_FOLDER = re.compile(r"part_(\d+)_of_(\d+)")
RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""A launcher's number, from 0, and count."""
ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
DEFAULTS = (("MIN", "0"), ("STEP", "1"))


@dataclass(frozen=True)
class Part:
    """Part `number`, from 1, of `count`."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(f"part must be K/N with K from 1 to N; got {self}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def folder(self, out: Path) -> Path:
        """Where the part lies."""
        return out / PART_NAME.format(self.number, self.count)

    def share(self, found: Found, chunk: int) -> Found:
        """This part's share: of units every `count`-th; of items those whose key says so, whatever else there is."""
        skipped = [(key, why) for key, why in found.skipped if self._has(key)]
        if found.units:
            return Found(list(found.units[self.number - 1 :: self.count]), skipped, found.notes)
        items: list[Item] = [item for item in found.items if self._has(item.key)]
        return Found(chunked(items, chunk), skipped, found.notes)

    def _has(self, key: str) -> bool:
        number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big")
        return number % self.count == self.number - 1


def parse_part(text: str, environment: Mapping[str, str]) -> Part:
    """`3/16`, or `auto`: what torchrun, srun or a SLURM array job says in the environment. Raises ValueError."""
    if text == "auto":
        return _launched(environment)
    match = FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"--part must be K/N, as 3/16, or auto; got {text!r}")
    return Part(int(match[1]), int(match[2]))


def _launched(environment: Mapping[str, str]) -> Part:
    """An array's tasks may start processes of their own: their ranks count within each task."""
    levels = []
    if all(name in environment for name in ARRAY):
        first, step = (int(environment.get(f"SLURM_ARRAY_TASK_{name}", default)) for name, default in DEFAULTS)
        levels.append(((int(environment[ARRAY[0]]) - first) // step, int(environment[ARRAY[1]])))
    ranks = [pair for pair in RANKS if all(name in environment for name in pair)][:1]
    levels += [(int(environment[rank]), int(environment[size])) for rank, size in ranks]
    if not levels:
        names = ", or ".join(" and ".join(pair) for pair in (*RANKS, ARRAY))
        raise ValueError(f"--part auto needs {names} in the environment: say --part K/N")
    number, count = 0, 1
    for place, size in levels:
        number, count = number * size + place, count * size
    return Part(number + 1, count)


def part_folders(out: Path) -> dict[Part, Path]:
    """The parts that lie in `out`, in order."""
    found = ((PART_FOLDER.fullmatch(path.name), path) for path in sorted(out.glob("part_*")) if path.is_dir())
    return {Part(int(match[1]), int(match[2])): path for match, path in found if match}


def check_alike(out: Path, part: Part | None) -> None:
    """Raise DataError where `out` was prepared whole and is to be in parts, or the other way, or in other parts."""
    others = {found.count for found in part_folders(out)} - {part.count if part else 0}
    if others:
        now = f"{part.count} parts" if part else "one"
        raise DataError(f"{out} was prepared in {min(others)} parts, not {now}: say --part K/{min(others)}")
    if part and chunk_files(out):
        raise DataError(f"{out} was prepared whole, not in parts: leave --part out, or choose another folder")


def merge(out: Path) -> dict[str, Any]:
    """Make the finished parts in `out` one data set, and return its report. Their chunks stay where they are.

    Raises DataError while a part is missing, unfinished or damaged, or when parts were made with different settings.
    """
    parts = part_folders(out)
    if not parts:
        raise DataError(f"{out} holds no parts: prepare them with --part K/N")
    first, *others = parts
    check_alike(out, first)
    done = {part.number for part, folder in parts.items() if (folder / REPORT).is_file()}
    missing = [str(Part(number, first.count)) for number in range(1, first.count + 1) if number not in done]
    if missing:
        raise DataError(f"{out} is not finished: prepare with --part {', --part '.join(missing[:3])} too")
    settings = read_settings(parts[first])
    for part in others:
        if read_settings(parts[part]) != settings:
            raise DataError(f"{out} has parts of different settings: {first} and {part}")
    report = joined([stored_report(folder, JOINED) for folder in parts.values()])
    if stored_null(parts[first]) is None:
        raise DataError(f"{parts[first] / NULL} is missing or not whole: {AGAIN}")
    with atomic_path(out / NULL) as partial:
        shutil.copyfile(parts[first] / NULL, partial)
    write_json(out / REPORT, report)
    return report

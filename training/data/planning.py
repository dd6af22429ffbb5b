"""What is left to do in a prepared folder: new videos, edited captions, and videos that changed or are gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from .chunk_index import CHUNK_NAME, ChunkIndex, read_indexes
from .items import DataError, DataSet, Found, Item, Unit, chunked, some_of, why_not
from .recipe import Recipe


@dataclass(frozen=True)
class Job:
    """A chunk file to write of `chunk`; None: to remove."""

    chunk: object
    path: Path


@dataclass(frozen=True)
class Plan:
    """`jobs` in order, and how many videos that have clips in the folder are gone from the data set."""

    jobs: list[Job]
    gone: list[str]

    def check_nothing_is_lost(self, folder: Path) -> None:
        """Raise DataError where clips would go."""
        refuse_to_lose(self.gone, folder)


def refuse_to_lose(gone: list[str], folder: Path) -> None:
    """Raise DataError for videos that have clips in `folder` and are gone."""
    if gone:
        videos = "a video that is" if len(gone) == 1 else f"{len(gone)} videos that are"
        raise DataError(
            f"{folder} holds clips of {videos} not in the data set any more, or without a caption: "
            f"{some_of(gone)}: put them back, or say --drop-removed"
        )


def make_plan(data: DataSet, found: Found, folder: Path, recipe: Recipe, size: int) -> Plan:
    """Chunks that are there keep what is still right in them; what is new goes into new ones of `size` videos."""
    indexes = read_indexes(folder)
    if found.units:
        return _plan_units(found.units, indexes, folder, recipe)
    return _plan_items(data, found.items, indexes, folder, recipe, size)


def _plan_items(
    data: DataSet, items: list[Item], indexes: list[ChunkIndex], folder: Path, recipe: Recipe, size: int
) -> Plan:
    wanted = {item.key: item for item in items}
    jobs, gone = [], []
    held: set[str] = set()
    for index in indexes:
        held |= index.entries.keys()
        kept = [wanted[key] for key in index.entries if key in wanted]
        problems = {item.key: why_not(data, item) for item in kept}
        gone += [key for key, entry in index.entries.items() if not entry.why and problems.get(key, "gone")]
        settled = all(index.entries[item.key].settles(item, problems[item.key], recipe) for item in kept)
        if len(kept) < len(index.entries) or not settled:
            jobs.append(Job(kept or None, index.path))
    fresh = chunked([item for key, item in wanted.items() if key not in held], size)
    jobs += [Job(*pair) for pair in zip(fresh, _free_paths(folder, indexes, len(fresh)), strict=True)]
    return Plan(sorted(jobs, key=lambda job: job.path), gone)


def _plan_units(units: list[Unit], indexes: list[ChunkIndex], folder: Path, recipe: Recipe) -> Plan:
    wanted = {unit.name: unit for unit in units}
    jobs, gone = [], []
    held: set[str] = set()
    for index in indexes:
        # Older files do not name their unit: the number said which it was.
        position = units[index.number].name if index.number < len(units) else ""
        name = index.unit["name"] if index.unit else position
        held.add(name)
        if name not in wanted:
            gone += [key for key, entry in index.entries.items() if not entry.why]
            jobs.append(Job(None, index.path))
        elif not index.is_made_of(wanted[name], recipe):
            jobs.append(Job(wanted[name], index.path))
    fresh = [unit for unit in units if unit.name not in held]
    jobs += [Job(*pair) for pair in zip(fresh, _free_paths(folder, indexes, len(fresh)), strict=True)]
    return Plan(sorted(jobs, key=lambda job: job.path), gone)


def _free_paths(folder: Path, indexes: list[ChunkIndex], wanted: int) -> Iterator[Path]:
    """The first names that no chunk has, so that a stopped run ends as an unbroken one."""
    taken = {index.number for index in indexes}
    return islice((folder / CHUNK_NAME.format(number) for number in count() if number not in taken), wanted)

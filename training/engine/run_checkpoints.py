"""Checkpoints of a run: complete, atomic, and the same for any number of processes.

A checkpoint is a folder `checkpoints/<step>` with safetensors files of full tensors or their shards by name (`model`,
`optimizer`, `average`) and `progress.json`. Weights that do not train are not in it, only their fingerprint. The step
is the position in the data and in every random stream too: batches and noise are drawn from (seed, step, micro-batch)
alone, and the learning rate is a function of the step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from .checkpoint_parts import StoredPart, Tensors, file_name, nbytes, on_cpu
from .durable_files import PARTIAL, commit_folder, full_disk_says, sync

FILES = ("model", "optimizer", "average")
FORMAT = 2  # 1 has one process's files, and in `model` the weights that do not train too


class Checkpoints:
    """The checkpoints of one run's folder; only the last is kept."""

    def __init__(self, output: Path, stage: str, architecture: Mapping[str, Any] | None = None) -> None:
        """`architecture`: the model's configs by `flatten_config`."""
        self.folder, self.stage, self.output = output / "checkpoints", stage, output
        self.architecture = dict(architecture or {})

    def last(self) -> Path | None:
        """The newest complete checkpoint. Raises ValueError for one of an older engine."""
        complete = sorted(path for path in self.folder.glob("[0-9]*") if not path.name.endswith(PARTIAL))
        if not complete and (self.output / "checkpoint" / "progress.json").is_file():
            raise ValueError(
                f"{self.output / 'checkpoint'} was written by an older version, whose checkpoints this one does not "
                "read; name another output, or delete it to begin again"
            )
        return complete[-1] if complete else None

    def partial(self, step: int) -> Path:
        """Where the checkpoint of `step` is until it is whole."""
        return self.folder / f"{step:08d}{PARTIAL}"

    def begin(self, step: int) -> None:
        """Make room for a checkpoint; what a killed run left half-written goes."""
        for path in self.folder.glob(f"*{PARTIAL}"):
            shutil.rmtree(path, ignore_errors=True)
        with self.room_for(step):
            self.partial(step).mkdir(parents=True)

    def write(self, step: int, portions: Mapping[str, Tensors], rank: int = 0, processes: int = 1) -> None:
        """Write the files of one process. Raises DiskFull; the last checkpoint is intact then."""
        with self.room_for(step, nbytes(portions.values()) / 1e6):
            for part in FILES:
                path = self.partial(step) / file_name(part, rank, processes)
                save_file(on_cpu(portions[part], copy=False), path)
                sync(path)

    def commit(self, step: int, progress: Mapping[str, Any]) -> None:
        """Let the files of all processes be the checkpoint of `step`, and remove older ones. Raises DiskFull."""
        progress = {"format": FORMAT, "stage": self.stage, "step": step, **progress, "architecture": self.architecture}
        target = self.folder / f"{step:08d}"
        with self.room_for(step):
            (self.partial(step) / "progress.json").write_text(json.dumps(progress))
            commit_folder(self.partial(step), target)
        for path in self.folder.glob("*"):
            if path != target:
                shutil.rmtree(path, ignore_errors=True)

    def discard(self, step: int) -> None:
        """Remove what was written of a checkpoint that cannot be."""
        shutil.rmtree(self.partial(step), ignore_errors=True)

    @contextlib.contextmanager
    def room_for(self, step: int, megabytes: float | None = None) -> Iterator[None]:
        """Turn a full disk inside into DiskFull of one sentence."""
        last = self.last()
        kept = f"the checkpoint of step {int(last.name)} is intact" if last else "there is no earlier checkpoint"
        size = "" if megabytes is None else f" ({megabytes:.0f} MB)"
        with full_disk_says(f"no space left for the checkpoint of step {step}{size} in {self.folder}; {kept}"):
            yield

    def progress(self, path: Path) -> dict[str, Any]:
        """What a checkpoint says of its run. Raises ValueError unless it is of this stage."""
        with damage_named(path):
            progress = json.loads((path / "progress.json").read_text())
        if progress["stage"] != self.stage:
            raise ValueError(
                f"{path} is a checkpoint of stage {progress['stage']!r}, this is {self.stage!r}: name another output"
            )
        return progress

    def check(self, path: Path, shapes: Mapping[str, Mapping[str, Iterable[int]]], frozen: str) -> dict[str, Any]:
        """Its progress. Raises ValueError unless it is of this stage and architecture, `model` and `average` have these
        shapes, and the weights that do not train have the fingerprint `frozen`."""
        progress = self.progress(path)
        for part, expected in shapes.items():
            with damage_named(path), self.open(path, part, progress) as file:
                stored = file.shapes()
            if progress["format"] == 1:
                stored = {name: shape for name, shape in stored.items() if part != "model" or name in expected}
            difference = describe_difference(stored, {name: tuple(shape) for name, shape in expected.items()})
            if difference:
                what = "the model" if part == "model" else "what trains"
                raise ValueError(f"{path} does not fit: {what} has changed since ({difference}); name another output")
        # Networks of one shape may still compute different things.
        known = progress.get("architecture", {})
        for name in sorted(known.keys() & self.architecture.keys()):
            if known[name] != self.architecture[name]:
                raise ValueError(
                    f"{path} does not fit: {name} was {known[name]!r} and is {self.architecture[name]!r} now; "
                    "name another output"
                )
        if progress.get("frozen", frozen) != frozen:
            raise ValueError(
                f"{path} does not fit: it was trained over other frozen weights; name the files that it began with, "
                "or another output"
            )
        return progress

    def open(self, path: Path, part: str, progress: Mapping[str, Any]) -> StoredPart:
        """One of FILES, to read from; use it within `damage_named`."""
        return StoredPart(path, part, progress.get("processes", 1))


@contextlib.contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn damage that a checkpoint took after it was written into a ValueError of one sentence."""
    try:
        yield
    except (json.JSONDecodeError, SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"the checkpoint {path} is damaged ({error}); delete it, or name another output") from error


def flatten_config(value: Any, name: str = "") -> dict[str, Any]:
    """Nested dataclasses and mappings as one mapping from dotted names to what JSON gives back of their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if not isinstance(value, Mapping):
        return {name: json.loads(json.dumps(value, default=str))} if name else {}
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        flat |= flatten_config(entry, f"{name}.{key}" if name else str(key))
    return flat


def describe_difference(stored: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> str:
    """What is different between a checkpoint's tensors and a model's, by its first example; "" for nothing."""
    missing, unknown = sorted(expected.keys() - stored.keys()), sorted(stored.keys() - expected.keys())
    changed = sorted(name for name in expected.keys() & stored.keys() if expected[name] != stored[name])
    if changed:
        name = changed[0]
        return f"{len(changed)} other shapes, first {name}: {list(stored[name])} there, {list(expected[name])} here"
    if missing or unknown:
        example = f"{missing[0]} is missing there" if missing else f"{unknown[0]} is unknown here"
        return f"{len(missing)} tensors missing and {len(unknown)} unknown, first {example}"
    return ""

"""Checkpoints of a run: complete, atomic, and the same for any number of processes.

A checkpoint is a folder `checkpoints/<step>` with safetensors files of full tensors by name (`model`, `optimizer`,
`average`) and `progress.json`. The step is the position in the data and in every random stream too: batches and noise
are drawn from (seed, step, micro-batch) alone, and the learning rate is a function of the step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from .durable_files import PARTIAL, full_disk_says, write_folder

FILES = ("model", "optimizer", "average")
FORMAT = 1


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

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], more: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step`, then remove older ones. Raises DiskFull; the last one is intact then."""
        last = self.last()
        size = sum(tensor.nbytes for part in tensors.values() for tensor in part.values()) / 1e6
        kept = f"the checkpoint of step {int(last.name)} is intact" if last else "there is no earlier checkpoint"

        def write(partial: Path) -> None:
            for name in FILES:
                save_file(unshare_storage(tensors[name]), partial / f"{name}.safetensors")
            progress = {"format": FORMAT, "stage": self.stage, "step": step, **more}
            progress["architecture"] = self.architecture
            (partial / "progress.json").write_text(json.dumps(progress))

        target = self.folder / f"{step:08d}"
        with full_disk_says(
            f"no space left for the checkpoint of step {step} ({size:.0f} MB) in {self.folder}; {kept}"
        ):
            write_folder(target, write)
        self.clean(target)

    def clean(self, kept: Path | None) -> None:
        """Remove what a killed run left half-written, and every checkpoint but `kept`."""
        for path in self.folder.glob("*"):
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)

    def check(self, path: Path, shapes: Mapping[str, Mapping[str, Iterable[int]]]) -> dict[str, Any]:
        """Its progress. Raises ValueError unless it is of this stage and architecture, and `model` and `average` have
        these shapes."""
        with _damage_named(path):
            progress = json.loads((path / "progress.json").read_text())
        if progress["stage"] != self.stage:
            raise ValueError(
                f"{path} is a checkpoint of stage {progress['stage']!r}, this is {self.stage!r}: name another output"
            )
        for part, expected in shapes.items():
            with _damage_named(path), safe_open(str(path / f"{part}.safetensors"), framework="pt") as file:
                stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
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
        return progress

    def load(self, path: Path, part: str) -> dict[str, Tensor]:
        """Tensors of one of FILES."""
        with _damage_named(path):
            return load_file(path / f"{part}.safetensors")


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
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


def unshare_storage(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share storage, as safetensors needs them."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        shared = tensor.untyped_storage().data_ptr() in seen
        seen.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor.clone().contiguous() if shared else tensor.contiguous()
    return separate


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

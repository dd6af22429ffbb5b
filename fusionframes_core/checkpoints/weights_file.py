"""Weights files of any format, opened safely: names, shapes and types first, tensors when they are asked for.

safetensors files and PyTorch archives are mapped into memory, not read; a PyTorch file is unpickled with
`weights_only=True`, which builds tensors and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from .pytorch_file import Place, find_places, map_tensor, unpickle

SAFETENSORS, PICKLED = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn)
PORTION = 64 * 2**20  # bytes that are mapped at a time where the tensors are converted and not kept
_SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Entry:
    """A tensor in a file."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_elements(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def nbytes(self) -> int:
        return self.num_elements * self.dtype.itemsize


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds. Names of nested PyTorch dictionaries are joined by dots."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors, mapped: they take memory as they are touched, and give it back under pressure."""
        raise NotImplementedError

    def portions(self, names: Iterable[str], limit: int = PORTION) -> Iterator[dict[str, Tensor]]:
        """The named tensors a few at a time; what is not kept of a portion is unmapped before the next."""
        portion: list[str] = []
        size = 0
        for name in names:
            if portion and size + self.entries[name].nbytes > limit:
                yield self.tensors(portion)
                portion, size = [], 0
            portion.append(name)
            size += self.entries[name].nbytes
        if portion:
            yield self.tensors(portion)


@dataclass(frozen=True)
class SafetensorsFile(WeightsFile):
    """A safetensors file."""

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}


@dataclass(frozen=True)
class PyTorchFile(WeightsFile):
    """A PyTorch archive, unpickled once, when it was opened; from then on tensors are mapped from where they lie."""

    places: Mapping[str, Place]

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: map_tensor(self.path, self.places[name]) for name in names}


@dataclass(frozen=True)
class UnmappableFile(WeightsFile):
    """A PyTorch file of before 2020, or an odd archive, whose tensors have no place to map: it is read each time."""

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        tensors = unpickle(self.path)
        return {name: tensors[name] for name in names}

    def portions(self, names: Iterable[str], limit: int = PORTION) -> Iterator[dict[str, Tensor]]:
        """All at once: a part costs as much as the whole."""
        yield self.tensors(names)


def open_weights(path: str | Path) -> WeightsFile:
    """Names, shapes and types of a file. Raises CheckpointError when it is missing, cut short, of another format, or
    holds anything but tensors."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the file does not exist")
    return _open_pickled(path) if is_pickled(path) else _open_safetensors(path)


def _open_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            entries = {name: _entry(path, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            return SafetensorsFile(path, entries, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({error})"
        ) from error


def _open_pickled(path: Path) -> WeightsFile:
    tensors = unpickle(path)
    entries = {name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    places = find_places(path, tensors)
    return UnmappableFile(path, entries, {}) if places is None else PyTorchFile(path, entries, {}, places)


def is_pickled(path: Path) -> bool:
    """Whether a file has to be read as PyTorch's own format: by its suffix, which decides what is tried at all."""
    return path.suffix.lower() in PICKLED


def _entry(path: Path, part: Any) -> Entry:
    name = str(part.get_dtype())
    if name not in _SAFETENSORS_TYPES:
        raise CheckpointError(f"cannot load {path}: it holds weights of the type {name}, which is not supported")
    return Entry(tuple(part.get_shape()), _SAFETENSORS_TYPES[name])

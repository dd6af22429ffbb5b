"""Weights files of any format, opened safely: names, shapes and types first, tensors when they are asked for.

safetensors files and PyTorch archives are mapped into memory, not read; a PyTorch file is unpickled with
`weights_only=True`, which builds tensors and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..files import stand_in_at
from .embedded_config import CONFIG_TENSOR, MODEL_CONFIG, config_text
from .pytorch_file import Place, find_places, is_pickle, is_plain, map_tensor, unpickle

SAFETENSORS, PICKLED = (".safetensors",), (".pt", ".pth", ".bin", ".ckpt")
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
_LOOKED_AT, _LONGEST_HEADER = 512, 100_000_000  # bytes; the latter is safetensors' own limit
_PACKED = {  # (where, which bytes): by what
    (0, b"\x1f\x8b"): "gzip",
    (0, b"BZh"): "bzip2",
    (0, b"\xfd7zXZ\x00"): "xz",
    (0, b"\x28\xb5\x2f\xfd"): "zstd",
    (0, b"7z\xbc\xaf\x27\x1c"): "7-Zip",
    (0, b"Rar!"): "RAR",
    (257, b"ustar"): "tar",
}
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
class WeightsFile(ABC):
    """What a file holds. Names of nested PyTorch dictionaries are joined by dots."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: entry.shape for name, entry in self.entries.items()}

    @abstractmethod
    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        """The named tensors, mapped: they take memory as they are touched, and give it back under pressure."""

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
        found = {name: tensors[name] for name in names}
        for name, tensor in found.items():
            if not is_plain(tensor):
                raise CheckpointError(
                    f"cannot load {self.path}: weights must be dense, and {name} is {_special(tensor)}"
                )
        return found

    def portions(self, names: Iterable[str], limit: int = PORTION) -> Iterator[dict[str, Tensor]]:
        """All at once: a part costs as much as the whole."""
        yield self.tensors(names)


def open_weights(path: str | Path) -> WeightsFile:
    """Names, shapes and types of a file. Raises CheckpointError when it is missing, cut short, of another format, or
    holds anything but tensors."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the file does not exist")
    refuse_stand_ins(path)
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if not start:
        raise CheckpointError(f"cannot load {path}: it is empty")
    packed = next((what for (place, mark), what in _PACKED.items() if start[place:].startswith(mark)), None)
    if packed:
        raise CheckpointError(f"cannot load {path}: it is packed by {packed}; unpack it first")
    if not _is_safetensors(start) and path.suffix.lower() in PICKLED:
        return _open_pickled(path)
    # A name that promises safetensors promises that nothing is unpickled.
    if start.startswith(b"PK\x03\x04") or is_pickle(path):
        raise CheckpointError(f"cannot load {path}: it is a PyTorch file; give it a name that ends in .pt")
    return _open_safetensors(path)


def _is_safetensors(start: bytes) -> bool:
    """By the length of its header, which is JSON: a pickle begins with other bytes."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LONGEST_HEADER


def refuse_stand_ins(path: Path) -> None:
    """Raise CheckpointError for what downloads leave behind in the place of weights."""
    what = stand_in_at(path, "weights")
    if what:
        raise CheckpointError(f"cannot load {path}: it is {what}")


def _open_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            entries = {name: _entry(path, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
            if entries.pop(CONFIG_TENSOR, None) is not None:
                metadata = {**metadata, MODEL_CONFIG: config_text(file.get_tensor(CONFIG_TENSOR))}
            if not entries:
                raise CheckpointError(f"cannot load {path}: it holds no weights")
            return SafetensorsFile(path, entries, metadata)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({error})"
        ) from error


def _special(tensor: Tensor) -> str:
    """What is not plain about a tensor."""
    if tensor.layout != torch.strided:
        return "sparse"
    return "without numbers" if tensor.is_meta else "quantised or nested"


def _open_pickled(path: Path) -> WeightsFile:
    tensors = unpickle(path)
    entries = {name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    places = find_places(path, tensors)
    return UnmappableFile(path, entries, {}) if places is None else PyTorchFile(path, entries, {}, places)


def _entry(path: Path, part: Any) -> Entry:
    name = str(part.get_dtype())
    if name not in _SAFETENSORS_TYPES:
        raise CheckpointError(f"cannot load {path}: it holds weights of the type {name}, which is not supported")
    return Entry(tuple(part.get_shape()), _SAFETENSORS_TYPES[name])

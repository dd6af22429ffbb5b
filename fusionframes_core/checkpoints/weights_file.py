"""Weights files of any format, opened safely: names, shapes and types first, tensors when they are asked for.

safetensors files and PyTorch archives are mapped into memory, not read; a PyTorch file is unpickled with
`weights_only=True`, which builds tensors and nothing else.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..files import stand_in_at
from .embedded_config import CONFIG_TENSOR, MODEL_CONFIG, config_text

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
class Place:
    """Where a tensor lies in an archive, and how it lies there."""

    start: int  # of its storage, in bytes from the file's beginning
    num_bytes: int  # of the storage, which it may share with others
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # of its first element in the storage, in elements


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
        return {name: _map_tensor(self.path, self.places[name]) for name in names}


@dataclass(frozen=True)
class UnmappableFile(WeightsFile):
    """A PyTorch file of before 2020, or an odd archive, whose tensors have no place to map: it is read each time."""

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        tensors = _unpickle(self.path)
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
    refuse_stand_ins(path)
    return _open_pickled(path) if is_pickled(path) else _open_safetensors(path)


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
            return SafetensorsFile(path, entries, metadata)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({error})"
        ) from error


def _open_pickled(path: Path) -> WeightsFile:
    tensors = _unpickle(path)
    entries = {name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    places = _find_places(path, tensors)
    return UnmappableFile(path, entries, {}) if places is None else PyTorchFile(path, entries, {}, places)


def is_pickled(path: Path) -> bool:
    """Whether a file has to be read as PyTorch's own format: by its suffix, which decides what is tried at all."""
    return path.suffix.lower() in PICKLED


def _entry(path: Path, part: Any) -> Entry:
    name = str(part.get_dtype())
    if name not in _SAFETENSORS_TYPES:
        raise CheckpointError(f"cannot load {path}: it holds weights of the type {name}, which is not supported")
    return Entry(tuple(part.get_shape()), _SAFETENSORS_TYPES[name])


def _find_places(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Place] | None:
    """Where the tensors that `unpickle` mapped lie in the file; None where that cannot be told beyond doubt.

    Every storage is a slice of one mapping of the whole archive, so that storages are as far apart in memory as their
    records are in the file. The one shift that puts every storage on a record of its size is the mapping's address.
    """
    records = _records(path)
    addresses = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values() if t.numel()}
    if not records or not addresses:
        return None
    first = min(addresses)
    shifts = {first - start for start in records}
    fitting = [
        shift for shift in shifts if all(records.get(address - shift) == size for address, size in addresses.items())
    ]
    if len(fitting) != 1:
        return None
    return {name: _place(tensor, fitting[0]) for name, tensor in tensors.items()}


def _place(tensor: Tensor, shift: int) -> Place:
    storage = tensor.untyped_storage()
    start = storage.data_ptr() - shift if tensor.numel() else 0
    shape, stride = tuple(tensor.shape), tuple(tensor.stride())
    return Place(start, storage.nbytes(), tensor.dtype, shape, stride, int(tensor.storage_offset()))


def _records(path: Path) -> dict[int, int]:
    """Start → size of the archive's storages; {} for a file that is no archive or holds compressed ones."""
    if not zipfile.is_zipfile(path):
        return {}
    found = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                return {}
            file.seek(info.header_offset + 26)  # the local header's lengths of name and extra field
            lengths = file.read(4)
            start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little")
            found[start + int.from_bytes(lengths[2:], "little")] = info.file_size
    return found


def _map_tensor(path: Path, place: Place) -> Tensor:
    """A tensor at its place, mapped: what is written to it stays in memory. It may start anywhere in the file."""
    if not all(place.shape):
        return torch.empty(place.shape, dtype=place.dtype)
    raw: np.ndarray = np.memmap(path, np.uint8, mode="c", offset=place.start, shape=(place.num_bytes,))
    if raw.ctypes.data % place.dtype.itemsize:
        raw = np.array(raw)
    return torch.from_numpy(raw).view(place.dtype).as_strided(place.shape, place.stride, place.offset)


def _unpickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, flat, mapped where its format allows it."""
    archive = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if not archive and file.read(2) == b"PK":
            raise CheckpointError(f"cannot load {path}: it must be a complete PyTorch file, and this one was cut short")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own words on old formats would stand before our sentence
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except MemoryError:
        raise
    except Exception as error:  # torch, pickle and zipfile raise what they like for a file that is none of theirs
        raise CheckpointError(_refusal(path, str(error))) from error
    wrapped = isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping)
    tensors = dict(_flatten(content["state_dict"] if wrapped else content))
    if not tensors:
        raise CheckpointError(f"cannot load {path}: it holds no weights")
    return tensors


def _refusal(path: Path, reason: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", reason) or re.search(r"Unsupported (?:class|global|operand) ([\w.]+)", reason)
    if found:
        return (
            f"cannot load {path}: it is refused, because it holds more than weights ({found[1]}), and reading that "
            f"could run code"
        )
    first = reason.strip().splitlines()[0][:200] if reason.strip() else "unreadable"
    return f"cannot load {path}: it must be a complete PyTorch file of weights, and this one is damaged ({first})"


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dictionaries; numbers and words beside them (an epoch, a name) are passed over."""
    if isinstance(content, Tensor):
        yield prefix or "tensor", content.detach()
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))

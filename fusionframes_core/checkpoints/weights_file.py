"""Weights files of any format, opened safely: names, shapes and types first, tensors when they are asked for.

safetensors files and PyTorch archives are mapped into memory, not read; a PyTorch file is unpickled with
`weights_only=True`, which builds tensors and nothing else.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError

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
        if is_pickled(self.path):
            tensors = _unpickle(self.path)
            return {name: tensors[name] for name in names}
        with safe_open(self.path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in names}

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


def open_weights(path: str | Path) -> WeightsFile:
    """Names, shapes and types of a file. Raises CheckpointError when it is missing, cut short, of another format, or
    holds anything but tensors."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the file does not exist")
    if is_pickled(path):
        tensors = _unpickle(path)
        entries = {name: Entry(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        return WeightsFile(path, entries, {})
    try:
        with safe_open(path, framework="pt") as file:
            entries = {name: _entry(path, file.get_slice(name)) for name in file.keys()}  # noqa: SIM118
            return WeightsFile(path, entries, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"cannot load {path}: it must be a complete safetensors file, and this one was cut short or has another "
            f"format ({error})"
        ) from error


def is_pickled(path: Path) -> bool:
    """Whether a file has to be read as PyTorch's own format: by its suffix, which decides what is tried at all."""
    return path.suffix.lower() in PICKLED


def _entry(path: Path, part: Any) -> Entry:
    name = str(part.get_dtype())
    if name not in _SAFETENSORS_TYPES:
        raise CheckpointError(f"cannot load {path}: it holds weights of the type {name}, which is not supported")
    return Entry(tuple(part.get_shape()), _SAFETENSORS_TYPES[name])


def _unpickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, flat, mapped where its format allows it."""
    archive = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if not archive and file.read(2) == b"PK":
            raise CheckpointError(f"cannot load {path}: it must be a complete PyTorch file, and this one was cut short")
    try:
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

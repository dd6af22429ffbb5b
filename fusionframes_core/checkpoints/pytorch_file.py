"""PyTorch's files: unpickled with `weights_only=True`, which builds tensors and nothing else, then mapped."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from .model_search import is_averaged


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in an archive, and how it lies there."""

    start: int  # of its storage, in bytes from the file's beginning
    num_bytes: int  # of the storage, which it may share with others
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int  # of its first element in the storage, in elements


def find_places(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Place] | None:
    """Where the tensors that `unpickle` mapped lie in the file; None where that cannot be told beyond doubt.

    Every storage is a slice of one mapping of the whole archive, so that storages are as far apart in memory as their
    records are in the file. The one shift that puts every storage on a record of its size is the mapping's address.
    """
    if not all(map(is_plain, tensors.values())):
        return None
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


def map_tensor(path: Path, place: Place) -> Tensor:
    """A tensor at its place, mapped: what is written to it stays in memory. It may start anywhere in the file."""
    if not all(place.shape):
        return torch.empty(place.shape, dtype=place.dtype)
    raw: np.ndarray = np.memmap(path, np.uint8, mode="c", offset=place.start, shape=(place.num_bytes,))
    if raw.ctypes.data % place.dtype.itemsize:
        raw = np.array(raw)
    return torch.from_numpy(raw).view(place.dtype).as_strided(place.shape, place.stride, place.offset)


def unpickle(path: Path) -> dict[str, Tensor]:
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
    tensors = dict(_flatten(_unwrapped(content)))
    if not tensors:
        raise CheckpointError(f"cannot load {path}: it holds no weights")
    return tensors


def _unwrapped(content: Any) -> Any:
    """A training program's `state_dict` without what is beside it, but for averaged weights, which are preferred."""
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        return content
    averaged = any(isinstance(value, Mapping) and is_averaged(str(name)) for name, value in content.items())
    return content if averaged else content["state_dict"]


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a bare pickle does, by which PyTorch saved before 2020."""
    with path.open("rb") as file:
        return file.read(2) in {bytes((0x80, protocol)) for protocol in range(2, 6)}


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is numbers that lie in a storage: not sparse, quantised, nested or without any (meta)."""
    special = tensor.is_quantized or tensor.is_nested or tensor.is_meta
    return tensor.layout == torch.strided and not special


def _refusal(path: Path, reason: str) -> str:
    name = r"([A-Za-z_][\w.]*)"
    found = re.search(rf"GLOBAL {name}", reason) or re.search(rf"Unsupported (?:class|global|operand) {name}", reason)
    instruction = re.search(r"Unsupported operand \d", reason)  # of a pickle, that no file of weights has
    if instruction and not (zipfile.is_zipfile(path) or is_pickle(path)):
        return f"cannot load {path}: it must be a PyTorch file of weights, and this one has another format"
    if found or instruction:
        what = f" ({found[1]})" if found else ""
        why = f"it holds more than weights{what}, and reading that could run code"
        return f"cannot load {path}: it is refused, because {why}"
    if "TorchScript" in reason:
        return f"cannot load {path}: it must be a PyTorch file of weights, and this one is a TorchScript program"
    first = reason.strip().splitlines()[0][:200] if reason.strip() else "unreadable"
    return f"cannot load {path}: it must be a complete PyTorch file of weights, and this one is damaged ({first})"


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested dictionaries; numbers and words beside them (an epoch, a name) are passed over."""
    if isinstance(content, Tensor):
        yield prefix or "tensor", content.detach()
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _flatten(value, f"{prefix}.{name}" if prefix else str(name))

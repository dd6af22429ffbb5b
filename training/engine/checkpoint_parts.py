"""The tensors of a checkpoint, in pieces: what each process writes, and any rows of the whole read back.

A process's file holds its own shards, which are slices along the first axis in the order of the processes, and its
share of what all have alike. So a name that lies in several files is their concatenation, and any other number of
processes reads the rows that it needs.

`torch.distributed.checkpoint` would do the same, but reads a pickled index; with its safetensors writer it holds every
file a second time in memory before it is written, and neither knows ZeRO's optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor

from .sharding import local_shard, own_rows

Tensors = Mapping[str, Tensor]


def file_name(part: str, rank: int, processes: int) -> str:
    """Of one process's file; of a single process the part's name alone."""
    return f"{part}.safetensors" if processes == 1 else f"{part}-{rank + 1:05d}-of-{processes:05d}.safetensors"


def own_portion(tensors: Tensors, rank: int, processes: int) -> dict[str, Tensor]:
    """What the process `rank` writes of tensors that all processes have, whole or in shards."""
    portion = {}
    for index, (name, tensor) in enumerate(sorted(tensors.items())):
        if isinstance(tensor, DTensor):
            shard = local_shard(tensor.detach())
            if len(shard):
                portion[name] = shard
        elif index % processes == rank:
            portion[name] = tensor.detach()
    return portion


def on_cpu(tensors: Tensors, copy: bool) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU of which no two share storage, as safetensors needs them; all new with `copy`."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.to("cpu", copy=copy or place in seen).contiguous()
        seen.add(place)
    return separate


class StoredPart:
    """One part of a checkpoint, in however many files; opened once, read where it is asked for."""

    def __init__(self, folder: Path, part: str, processes: int) -> None:
        """Raises FileNotFoundError or SafetensorError for a file that is missing or damaged."""
        self._files = ExitStack()
        self.pieces: dict[str, list[tuple[Any, int]]] = {}  # name → files in order, rows of each
        for rank in range(processes):
            file = self._files.enter_context(safe_open(str(folder / file_name(part, rank, processes)), framework="pt"))
            for name in file.keys():  # noqa: SIM118 (not a dict)
                rows = (file.get_slice(name).get_shape() or [0])[0]
                self.pieces.setdefault(name, []).append((file, rows))

    def __enter__(self) -> StoredPart:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the whole."""
        return {name: self._shape(name) for name in self.pieces}

    def _shape(self, name: str) -> tuple[int, ...]:
        pieces = self.pieces[name]
        shape = tuple(pieces[0][0].get_slice(name).get_shape())
        return (sum(rows for _, rows in pieces), *shape[1:]) if shape else shape

    def tensor(self, name: str) -> Tensor:
        """The whole tensor, in memory of its own."""
        shape = self._shape(name)
        return self.rows(name, 0, shape[0]) if shape else self.pieces[name][0][0].get_tensor(name).clone()

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows [first, last) of a tensor, in memory of their own."""
        found, start = [], 0
        for file, rows in self.pieces[name]:
            low, high = max(first - start, 0), min(last - start, rows)
            if low < high:
                found.append(file.get_slice(name)[low:high])
            start += rows
        empty = not found
        return self.pieces[name][0][0].get_slice(name)[0:0] if empty else torch.cat(found)

    def fill(self, name: str, target: Tensor) -> None:
        """Copy a tensor into `target`, or into this process's shard of it."""
        with torch.no_grad():
            if isinstance(target, DTensor):
                local_shard(target).copy_(self.rows(name, *own_rows(target)))
            else:
                target.copy_(self.tensor(name))


def nbytes(parts: Iterable[Tensors]) -> int:
    """Of all tensors."""
    return sum(tensor.nbytes for tensors in parts for tensor in tensors.values())

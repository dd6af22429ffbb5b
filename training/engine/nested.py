"""Batches are nested: tensors in mappings, dataclasses, lists and tuples, beside what is no tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from torch import Tensor


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with `change(tensor)` in the place of every tensor; what holds none is the very object."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(entry, change) for key, entry in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: map_tensors(getattr(value, f.name), change) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changed)
    if isinstance(value, list | tuple) and any(isinstance(entry, Tensor) for entry in value):
        return type(value)(map_tensors(entry, change) for entry in value)
    return value


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nested value."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, collect)
    return found


def split_batch(batch: Any, size: int) -> Iterator[tuple[Any, int]]:
    """A batch, all tensors of which have a row for each sample, in parts of `size`; and how many samples each has."""
    rows = len(tensors_in(batch)[0])
    for first in range(0, rows, size):
        some = slice(first, min(first + size, rows))
        yield map_tensors(batch, itemgetter(some)), some.stop - first

"""Figures of a run: means over samples, micro-batches, steps and processes alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

# What a loss reports beside its value: a number for the whole batch, or one for each sample it concerns (there may be
# none). Every batch has the same names.
Figure = float | Tensor
Figures = dict[str, Figure]


class Means:
    """Sums of figures and how many numbers are in each, as Python floats, which checkpoints can keep."""

    def __init__(self, sums: Mapping[str, Sequence[float]] | None = None) -> None:
        self.sums: dict[str, tuple[float, float]] = {name: (pair[0], pair[1]) for name, pair in (sums or {}).items()}

    def add(self, figures: Mapping[str, Figure]) -> None:
        """Take in a batch's figures."""
        for name, value in figures.items():
            numbers = value.detach().cpu() if isinstance(value, Tensor) else torch.tensor(value)
            self._add(name, numbers.double().sum().item(), numbers.numel())  # on the CPU: MPS has no float64

    def merge(self, other: Means) -> None:
        """Take in what `other` has."""
        for name, (total, count) in other.sums.items():
            self._add(name, total, count)

    def _add(self, name: str, total: float, count: float) -> None:
        before, counted = self.sums.get(name, (0.0, 0))
        self.sums[name] = (before + total, counted + count)

    def flatten(self) -> list[float]:
        """Sums and counts in one list, in an order that the names alone decide; for adding up over processes."""
        return [number for name in sorted(self.sums) for number in self.sums[name]]

    def unflatten(self, flat: Sequence[float]) -> None:
        """Take the sums and counts from a list in the order of `flatten`."""
        names = sorted(self.sums)
        self.sums = {name: (flat[2 * i], flat[2 * i + 1]) for i, name in enumerate(names)}

    def means(self) -> dict[str, float]:
        """The mean of every figure of which there is a number."""
        return {name: total / count for name, (total, count) in sorted(self.sums.items()) if count}

"""Conditions of ComfyUI's that the steps and predictions of a run share, instead of a copy for each."""

from __future__ import annotations

from typing import Any

from comfy import conds
from torch import Tensor


class SteadyText(conds.CONDRegular):
    """A context (1, N, D) that is the same tensor in every step, alone or joined with those of other predictions.

    The network knows it again by that (`networks.Memos`): on its device and in its type already, nothing copies it.
    """

    def __init__(self, cond: Tensor) -> None:
        super().__init__(cond)
        self._repeated: dict[int, Any] = {}
        self._joined: dict[tuple[int, ...], tuple[Any, Tensor]] = {}

    def process_cond(self, batch_size: int, **kwargs: Any) -> Any:
        """For a number of videos."""
        if batch_size not in self._repeated:
            self._repeated[batch_size] = super().process_cond(batch_size, **kwargs)
        return self._repeated[batch_size]

    def concat(self, others: Any) -> Tensor:
        """This context and those of the other predictions, along the batch."""
        key = tuple(id(other) for other in others)
        if key not in self._joined:
            self._joined[key] = (tuple(others), super().concat(others))  # held, so that the ids stay theirs
        return self._joined[key][1]


class SharedVideo(conds.CONDNoiseShape):
    """A condition (B, C, T, h, w) that every prediction of a step may share: one tensor instead of a copy for each."""

    def concat(self, others: Any) -> Tensor:
        """This video and those of the other predictions, along the batch."""
        if len(self.cond) == 1 and all(other.cond is self.cond for other in others):
            return self.cond.expand(1 + len(others), -1, -1, -1, -1)
        return super().concat(others)

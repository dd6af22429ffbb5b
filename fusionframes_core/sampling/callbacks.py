"""How a stage tells what it has done, and how it is stopped: a callback ends the work by raising."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor


class Stopped(Exception):
    """For a callback to raise when the work is to end; whatever a callback raises reaches the caller."""


Callback = Callable[[int, int, Tensor], object]
"""`callback(step, total, latents)`, after every step; step counts from 1 to total."""

StageCallback = Callable[[str, int, int, Tensor], object]
"""`callback(stage, step, total, latents)`, for work of several stages."""


def run_callback(callback: Callback | None, step: int, total: int, latents: Tensor) -> None:
    """Call a callback, if there is one; what it raises ends the work.

    This is the one place that reads its answer: a Stopped that was returned (from a lambda, which cannot raise) is
    raised, anything else is ignored.
    """
    answer = None if callback is None else callback(step, total, latents)
    if isinstance(answer, Stopped):
        raise answer


def shown_as(callback: Callback | None, change: Callable[[Tensor], Tensor]) -> Callback | None:
    """The callback, shown `change(latents)`: a loop may work on a difference or on groups of frames."""
    if callback is None:
        return None
    return lambda step, total, latents: callback(step, total, change(latents))


def of_stage(callback: StageCallback | None, name: str) -> Callback | None:
    """A whole generation's callback as that of its stage `name`."""
    return None if callback is None else partial(callback, name)

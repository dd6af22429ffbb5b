"""Errors in one sentence: the class for files that do not fit, and helpers that word them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def named(choices: dict[str, Any], what: str, name: str) -> Any:
    """Look a name up; the ValueError lists what is allowed."""
    if name not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}; got {name!r}")
    return choices[name]


@contextmanager
def one_sentence(what: str) -> Iterator[None]:
    """Errors of a configuration file become CheckpointErrors that name it."""
    try:
        yield
    except CheckpointError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(f"{what}: {error}") from error


class NotFinite(ValueError):
    """A stage has made NaN or infinity, which would be a black video."""


def require_finite(stage: str, values: Tensor, dtype: Any) -> Tensor:
    """The tensor `values`. Raises NotFinite, which names the `stage` and what to try, unless all of it is finite.

    `dtype` is the type that the stage worked in.
    """
    # The extremes of a tensor with NaN are NaN; unlike isfinite they need no memory of its size.
    if all(extreme.isfinite() for extreme in values.aminmax()):
        return values
    name = str(dtype).removeprefix("torch.")
    advice = _INSTEAD.get(name, "its weights are damaged or of another kind of model; `inspect` says what they hold")
    raise NotFinite(f"{stage} gave values that are not finite (NaN or infinity), in {name}: {advice}")


_INSTEAD = {
    "float16": "the numbers outgrew fp16; try bf16 or fp32",
    "bfloat16": "try fp32; if that gives the same, the weights are damaged",
    "float8_e4m3fn": "try bf16 or fp32; if these give the same, the weights are damaged",
}


class CheckpointError(ValueError):
    """A file that cannot be loaded, or does not fit the model; says so in one sentence.

    `missing`, `unexpected` and `mismatched` name every key that does not fit.
    """

    def __init__(
        self,
        message: str,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
        mismatched: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.missing, self.unexpected, self.mismatched = missing, unexpected, mismatched

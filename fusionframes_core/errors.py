"""Errors in one sentence: the class for files that do not fit, and helpers that word them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{what}: {error}") from error


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

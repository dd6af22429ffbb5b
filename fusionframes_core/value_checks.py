"""Checks of single values: each raises ValueError with one sentence that names the argument, the value and what is
allowed."""

from __future__ import annotations

import math
import numbers
from typing import Any


def check_range(name: str, value: Any, lowest: int, highest: int) -> None:
    """Raise ValueError unless `value` is a whole number from lowest to highest."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not lowest <= value <= highest:
        raise ValueError(f"{name} must be a whole number from {lowest} to {highest}; got {value!r}")


def check_denoise(value: Any, steps: int, most: int) -> None:
    """Raise ValueError unless `value` is above 0, at most 1, and no less than asks for `most` steps from noise on."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise ValueError(f"denoise must be above 0 and at most 1; got {value!r}")
    if int(steps / value) > most:
        raise ValueError(
            f"denoise must be at least {steps / most:g} for {steps} steps, which are the last ones of steps / denoise, "
            f"at most {most}; got {value!r}"
        )


def check_weight(name: str, value: Any) -> None:
    """Raise ValueError unless `value` is None or a finite number of at least 0."""
    if value is None:
        return
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be a finite number of at least 0; got {value!r}")


def check_choice(name: str, value: Any, choices: Any) -> None:
    """Raise ValueError unless `value` is None or one of `choices`."""
    if value is not None and (not isinstance(value, str) or value not in choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_size(size: Any, multiple: int) -> None:
    """Raise ValueError unless `size` is (height, width), both positive multiples of `multiple`."""
    pair = isinstance(size, tuple | list) and len(size) == 2
    if not pair or not all(
        isinstance(side, numbers.Integral) and int(side) > 0 and int(side) % multiple == 0 for side in size
    ):
        shown = "x".join(map(str, size)) if isinstance(size, tuple | list) else repr(size)
        raise ValueError(f"size must be height and width in pixels, both multiples of {multiple}; got {shown}")

"""Any frame rate from passes that make it fourfold: frames are taken by time.

A pass turns T frames into 4T − 3 (paper section 4.2). Twice the rate is every second of these, three times those that
are nearest in time; two passes make the grid finer, so that odd rates move more evenly.
"""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real
from typing import Any

PASS_FACTOR = 4
MAX_PASSES = 2
MIN_MULTIPLIER = Fraction(1, 1000)
MAX_MULTIPLIER = PASS_FACTOR**MAX_PASSES
_ALLOWED = f"from {float(MIN_MULTIPLIER):g} to {MAX_MULTIPLIER} times"


def as_multiplier(name: str, value: Any) -> Fraction:
    """A multiple of a frame rate. Raises ValueError unless it is at least a thousandth and two passes can make it."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not MIN_MULTIPLIER <= value <= MAX_MULTIPLIER:
        raise ValueError(f"{name} must be {_ALLOWED} the frame rate; got {value!r}")
    return Fraction(value).limit_denominator(10**6)


def multiplier_to(rate: float | Fraction, target: float | Fraction) -> Fraction:
    """How many times a frame rate another is. Raises ValueError where `as_multiplier` would."""
    least, most = MIN_MULTIPLIER * Fraction(rate), MAX_MULTIPLIER * Fraction(rate)
    if not least <= target <= most:
        raise ValueError(
            f"target_fps must be {_ALLOWED} the {float(rate):g} frames per second of the input, {float(least):g} to "
            f"{float(most):g}; got {float(target):g}"
        )
    return (Fraction(target) / Fraction(rate)).limit_denominator(10**6)


def passes_for(multiplier: Fraction, wanted: int = 0) -> int:
    """The passes that make at least this multiple of the rate, or more if so many are wanted."""
    needed = next(count for count in range(MAX_PASSES + 1) if PASS_FACTOR**count >= multiplier)
    return max(needed, wanted)


def frames_by_time(count: int, passes: int, multiplier: Fraction, loop: bool = False) -> list[int]:
    """Which frames of the passes' output to take, for `count` frames before them.

    Each is the one nearest in time, of two the later. In a loop the last frame is followed by the first.
    """
    last = PASS_FACTOR**passes * (count - (not loop))
    step = Fraction(PASS_FACTOR**passes) / multiplier
    taken = math.ceil(last / step) if loop else math.floor(last / step) + 1
    places = [math.floor(index * step + Fraction(1, 2)) for index in range(taken)]
    return [place % last for place in places] if loop else places

"""Checks of single values: what is allowed at the edges, and that every refusal names argument, value and bounds."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from fusionframes_core.value_checks import check_choice, check_denoise, check_range, check_size, check_weight

NAN, INF = float("nan"), float("inf")

ALLOWED = [
    *((check_range, ("n", value, 1, 3)) for value in (1, 3, np.int64(2))),
    *((check_weight, ("w", value)) for value in (None, 0, 1.5, Fraction(1, 3), np.float32(2))),
    *((check_choice, ("c", value, ("a", "b"))) for value in (None, "a", "b")),
    *((check_size, (value, 8)) for value in ((8, 16), [24, 8], (np.int64(8), 8))),
    *((check_denoise, (value, 20, 1000)) for value in (1, 0.5, 0.02)),
]
REFUSED = [
    *((check_range, ("n", value, 1, 3), "n must be a whole number from 1 to 3") for value in (0, 4, 1.0, True, "2")),
    *((check_weight, ("w", value), "w must be a finite number of at least 0") for value in (-1, NAN, INF, True, "1")),
    *(
        (check_choice, ("c", value, ("a", "b")), "c must be one of a, b; got ")
        for value in ("A", "", 1, ["a"], {"a": 1})
    ),
    *(
        (check_size, (value, 8), "multiples of 8; got ")
        for value in ((8, 12), (0, 8), (-8, 8), (8,), 8, (8.0, 8), "88")
    ),
    *(
        (check_denoise, (value, 20, 1000), "denoise must be above 0 and at most 1; got ")
        for value in (0, 1.1, NAN, True)
    ),
    (check_denoise, (0.01, 20, 1000), "denoise must be at least 0.02 for 20 steps"),
]


@pytest.mark.parametrize(("check", "values"), ALLOWED)
def test_what_is_allowed_passes(check: Callable[..., None], values: tuple[object, ...]) -> None:
    check(*values)


@pytest.mark.parametrize(("check", "values", "message"), REFUSED)
def test_a_refusal_names_what_was_given_and_what_is_allowed(
    check: Callable[..., None], values: tuple[object, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        check(*values)
    given = values[0] if check in (check_size, check_denoise) else values[1]
    shown = "x".join(map(str, given)) if check is check_size and isinstance(given, tuple) else repr(given)
    assert str(refused.value).endswith(f"got {shown}")

"""Any frame rate by time: laws of the picks."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fusionframes_core.sampling.frame_rates import as_multiplier, frames_by_time, multiplier_to, passes_for


@pytest.mark.parametrize("multiple", [1, 2, 3, 4, 5, 8, 12, 16, Fraction(15, 2), Fraction(30000, 2002)])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_frames_are_the_nearest_in_time(multiple: Fraction, count: int) -> None:
    """Rising, from the first to at most the last, none further off than half a frame, as many as fit into the time."""
    passes = passes_for(Fraction(multiple))
    places = frames_by_time(count, passes, Fraction(multiple))
    made = 4**passes * (count - 1) + 1
    step = Fraction(4**passes) / Fraction(multiple)
    assert places[0] == 0
    assert places == sorted(set(places))
    assert places[-1] < made
    assert all(abs(place - index * step) <= Fraction(1, 2) for index, place in enumerate(places))
    assert (len(places) - 1) / Fraction(multiple) <= count - 1 < len(places) / Fraction(multiple)


def test_whole_multiples_keep_the_given_frames() -> None:
    for multiple in (1, 2, 3, 4, 8, 16):
        for passes in range(passes_for(Fraction(multiple)), 3):
            places = frames_by_time(5, passes, Fraction(multiple))
            assert places[::multiple] == [4**passes * index for index in range(5)]


def test_all_frames_are_the_passes_own() -> None:
    assert frames_by_time(4, 1, Fraction(4)) == list(range(13))
    assert frames_by_time(3, 2, Fraction(16)) == list(range(33))
    assert frames_by_time(3, 1, Fraction(4), loop=True) == list(range(12))


def test_a_loop_has_no_frame_twice() -> None:
    """As long as the ring, and its end is not its beginning."""
    for multiple in (2, 3, 5, 8):
        places = frames_by_time(5, passes_for(Fraction(multiple)), Fraction(multiple), loop=True)
        assert len(set(places)) == len(places) == 5 * multiple


def test_passes() -> None:
    needed = {1: 0, 2: 1, 3: 1, 4: 1, 5: 2, 16: 2}
    assert {multiple: passes_for(Fraction(multiple)) for multiple in needed} == needed
    assert passes_for(Fraction(3), wanted=2) == 2


def test_the_least_multiple_leaves_a_frame() -> None:
    for least in (as_multiplier("multiplier", 0.001), multiplier_to(24, 0.024)):
        assert least == Fraction(1, 1000)
        assert frames_by_time(16, passes_for(least), least) == [0]


def test_what_two_passes_cannot_make_is_a_sentence() -> None:
    assert multiplier_to(2, 24) == 12
    assert multiplier_to(Fraction(30000, 1001), 60) == Fraction(1001, 500)
    with pytest.raises(ValueError, match=r"16 times the 2 frames per second of the input, 0\.002 to 32; got 33"):
        multiplier_to(2.0, 33)
    for value in (0, 1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"target_fps must be from 0\.001 to 16 times"):
            multiplier_to(2.0, value)
    for value in (0, 1e-9, -1, 17, float("nan"), "3", True):
        with pytest.raises(ValueError, match=r"multiplier must be from 0\.001 to 16 times"):
            as_multiplier("multiplier", value)

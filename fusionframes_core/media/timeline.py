"""When the pictures of a video are shown, and pictures at a constant rate made from any others."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .frames import Frames

DEFAULT_RATE = Fraction(24)
"""Frames a second of what does not say, such as a folder of pictures."""
_MAX_DENOMINATOR = 1001  # of a rate that is measured: 24000/1001, 30000/1001
_MOSTLY = 0.9  # of the intervals are alike: a constant rate with frames left out
_ALIKE = 0.1  # intervals differ by less than this share
_NEAR = 0.02  # a declared rate and the measured one do; milliseconds make 33 of 33.3


@dataclass(frozen=True)
class TimedPicture:
    """A picture (H, W, 3) and when it is shown, in seconds from the video's first."""

    time: float
    picture: Frames


@dataclass(frozen=True)
class Timeline:
    """`rate` in pictures a second, the average where it is `variable`; how many, and how many seconds."""

    rate: Fraction
    variable: bool
    count: int
    duration: float


def make_timeline(times: Sequence[float], last: float | None, declared: Sequence[Fraction | None]) -> Timeline:
    """The time line of pictures that are shown at `times` (seconds, rising); the last one for `last` seconds.

    The rate is the first of the `declared` ones (those of a file's header) that is true for every picture: each is
    less than half an interval from its place. Where none is, the rate is variable.
    """
    seconds = np.asarray(times, dtype=np.float64) - (times[0] if len(times) else 0.0)
    known = [Fraction(rate) for rate in declared if rate]
    if len(seconds) < 2:
        rate = known[0] if known else DEFAULT_RATE
        return Timeline(rate, False, len(seconds), last or len(seconds) / float(rate))
    intervals = np.diff(seconds)
    if seconds[-1] > 0:
        known.append(Fraction((len(seconds) - 1) / seconds[-1]).limit_denominator(_MAX_DENOMINATOR))
    for rate in known:
        # Of MPEG program streams FFmpeg gives some times twice and leaves out others: that is no variable rate.
        slack = 0.5 if intervals.min() * float(rate) > _ALIKE else 1.5
        if rate and np.all(np.abs(seconds * float(rate) - np.arange(len(seconds))) < slack):
            return Timeline(rate, False, len(seconds), len(seconds) / float(rate))
    duration = float(seconds[-1] + (last or intervals[-1]))
    if not duration > 0:  # all are said to be shown at once
        rate = known[0] if known else DEFAULT_RATE
        return Timeline(rate, False, len(seconds), len(seconds) / float(rate))
    return Timeline(_typical_rate(intervals, len(seconds) / duration, known), True, len(seconds), duration)


def resample(
    frames: Iterable[TimedPicture], rate: float | Fraction, count: int, first: float = 0.0
) -> Iterator[Frames]:
    """`count` pictures, 1/rate seconds apart from `first` (seconds) on: each the one that is nearest in time.

    Of two that are equally near, the later. After the last picture that one stays. What follows is read too, so that
    it is said where it cannot be.
    """
    rest = iter(frames)
    current = next(rest, None)
    following = next(rest, None)
    if current is None:
        return
    for index in range(count):
        time = first + index / float(rate)
        while following is not None and following.time - time <= time - current.time + 1e-6:
            current, following = following, next(rest, None)
        yield current.picture
    deque(rest, maxlen=0)


def resampled_count(timeline: Timeline, rate: float | Fraction) -> int:
    """How many pictures of `rate` last as long as the video."""
    return max(1, round(timeline.duration * float(rate)))


def at_rate(frames: Iterable[TimedPicture], timeline: Timeline, rate: Fraction | None = None) -> Iterator[Frames]:
    """The pictures at a constant rate: as they are, one by one, where the video's own is that; else resampled.

    `rate` None is the video's own, the average of a variable one. A lower rate takes from every interval its middle.
    """
    if not timeline.variable and rate in (None, timeline.rate):
        return (frame.picture for frame in frames)
    wanted = rate or timeline.rate
    middle = (float(1 / wanted) - timeline.duration / max(timeline.count, 1)) / 2
    return resample(frames, wanted, resampled_count(timeline, wanted), max(0.0, middle))


def first_pictures(pictures: Iterator[Frames], most: int | None) -> Iterator[Frames]:
    """At most the first `most` pictures, or all."""
    return pictures if most is None else itertools.islice(pictures, most)


def _typical_rate(intervals: NDArray[np.float64], average: float, known: Sequence[Fraction]) -> Fraction:
    """The rate of frames that are mostly evenly apart, in the header's words if it says so; else the average."""
    typical = float(np.median(intervals))
    if typical > 0 and np.mean(np.abs(intervals - typical) < _ALIKE * typical) >= _MOSTLY:
        nearest = min(known, key=lambda rate: abs(float(rate) * typical - 1))
        near = abs(float(nearest) * typical - 1) < _NEAR
        return nearest if near else Fraction(1 / typical).limit_denominator(_MAX_DENOMINATOR)
    return Fraction(average).limit_denominator(_MAX_DENOMINATOR)

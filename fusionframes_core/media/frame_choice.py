"""Which frames of a video are taken: at another rate, from a frame on, every so many, and at most so many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameChoice:
    """In this order: the frames at `rate` (0: as they are) by time, without the first `skip`, of those each first of
    `every`, and of those at most `cap` (0: all)."""

    rate: float = 0.0
    skip: int = 0
    every: int = 1
    cap: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it begins with the video's first frame and ends with its last."""
        return not self.skip and not self.cap

    def places(self, rate: float) -> Iterator[int]:
        """The places, rising and without end unless there is a cap, of the frames to take of a video of `rate`.

        At another rate each frame is the one nearest in time, of two the later.
        """
        step = Fraction(rate) / Fraction(self.rate) if self.rate else Fraction(1)
        chosen = (math.floor(index * step + Fraction(1, 2)) for index in itertools.count(self.skip, self.every))
        return itertools.islice(chosen, self.cap or None)


def take(pieces: Iterable[Tensor], places: Iterator[int]) -> Iterator[Tensor]:
    """The frames at `places` of a video that comes in pieces (N, ...), in pieces; no more are asked for than needed."""
    start, place = 0, next(places, None)
    for piece in pieces:
        chosen: list[int] = []
        while place is not None and place < start + len(piece):
            chosen.append(place - start)
            place = next(places, None)
        if chosen:
            yield piece if chosen == list(range(len(piece))) else piece[chosen]
        if place is None:
            return
        start += len(piece)


def regroup(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same frames in pieces of `size` frames, of which the last may be smaller."""
    held: list[Tensor] = []
    for piece in pieces:
        held.append(piece)
        while sum(map(len, held)) >= size:
            joined = torch.cat(held) if len(held) > 1 else held[0]
            yield joined[:size]
            held = [joined[size:]] if len(joined) > size else []
    if held:
        yield torch.cat(held) if len(held) > 1 else held[0]

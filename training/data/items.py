"""What a data set is made of, before anything is decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
NO_CAPTION = "no caption"
NAMED_IN_AN_ERROR = 5
ON_AVERAGE = " on average"
SAME_RATE = 0.99
"""Rates that differ by less are one rate: 24000/1001 FPS is 24 FPS."""


Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Buckets:
    """Several sizes: a video takes the one whose shape is nearest to its own, so that little is cropped."""

    sizes: tuple[Size, ...]

    def nearest(self, height: int, width: int) -> Size:
        """The size for pictures of this one; of equally near ones the first."""
        return min(self.sizes, key=lambda size: abs(math.log(size[0] * width / (size[1] * height))))


class DataError(ValueError):
    """What is wrong with a data set as a whole, in one sentence."""


class VideoError(ValueError):
    """Why one video cannot be used, in a few words; the video is listed and skipped."""


@dataclass(frozen=True)
class Rate:
    """Frames a second: the average of a video where it `varies`."""

    fps: float
    varies: bool = False

    def __str__(self) -> str:
        return f"{self.fps:.5g}" + ON_AVERAGE * self.varies

    @property
    def in_words(self) -> str:
        """`24 FPS`, `8.571 FPS on average`."""
        return f"{self.fps:.5g} FPS" + ON_AVERAGE * self.varies


@dataclass(frozen=True)
class Footage:
    """Pictures in order, `fps` of them a second, and the rate that the video has of its own."""

    pictures: Iterator[Picture]
    fps: float
    own: Rate


@dataclass(frozen=True)
class Item:
    """One video: `key` is its name in reports; `source` a file, the bytes of one, or a data set's own value.

    `problem` says why it cannot be used where that is known before it is decoded. Keys are unique in a list of items,
    or in a Unit.
    """

    key: str
    source: Path | BytesIO | object
    captions: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Unit:
    """A chunk whose items are known only when it is read: a tar file, or a range of scenes."""

    name: str
    source: object

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Found:
    """The chunks of a data set, which are prepared one by one; what was ruled out (key, why), and what to tell.

    Either every chunk is a Unit, or every chunk is a list of items.
    """

    chunks: list[object]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def units(self) -> list[Unit]:
        """The chunks that are units."""
        return [chunk for chunk in self.chunks if isinstance(chunk, Unit)]

    @property
    def items(self) -> list[Item]:
        """The items of the chunks that are lists."""
        return [item for chunk in self.chunks if isinstance(chunk, list) for item in chunk]


class DataSet(Protocol):
    """A layout. It is sent to other processes, so it holds settings and paths, no open file."""

    needs_captions: bool

    @property
    def choices(self) -> dict[str, Any]:
        """What decides which videos there are and what their captions are, apart from where they lie."""

    def find(self, chunk: int) -> Found:
        """Look at folders and lists, decode nothing. `chunk` is the number of videos in one. Raises DataError."""

    def items(self, chunk: object) -> Iterator[Item]:
        """The videos of one of `find`'s chunks. Raises VideoError where the chunk itself breaks off."""

    def footage(self, item: Item, size: Size | Buckets, fps: float | None) -> Footage:
        """Pictures (height, width, 3) of `size`, at `fps` where there are so many. Raises VideoError, at the latest
        while they are read."""


def chunked(items: list[Item], chunk: int) -> list[object]:
    """Lists of at most `chunk` items."""
    return [items[start : start + chunk] for start in range(0, len(items), chunk)]


def why_not(data: DataSet, item: Item) -> str:
    """Why a video cannot be used, as far as that is known before it is decoded; "" where nothing is."""
    return item.problem or (NO_CAPTION if data.needs_captions and not item.captions else "")


def missing_sentence(listing: Path, missing: list[str], folder: Path) -> str:
    """`captions.csv names 2 videos that are not in clips: a.mp4, b.mp4`."""
    videos = "a video that is" if len(missing) == 1 else f"{len(missing)} videos that are"
    return f"{listing} names {videos} not in {folder}: {some_of(missing)}"


def some_of(names: Sequence[str]) -> str:
    """The first names: `a, b, c, d, e, ...`."""
    return ", ".join(names[:NAMED_IN_AN_ERROR]) + (", ..." if len(names) > NAMED_IN_AN_ERROR else "")

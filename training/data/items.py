"""What a data set is made of, before anything is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # (H, W, 3), RGB
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".gif")
NAMED_IN_AN_ERROR = 5


class DataError(ValueError):
    """What is wrong with a data set as a whole, in one sentence."""


class VideoError(ValueError):
    """Why one video cannot be used, in a few words; the video is listed and skipped."""


@dataclass(frozen=True)
class Item:
    """One video: `key` is its name in reports, unique; `source` a file, the bytes of one, or a data set's own value."""

    key: str
    source: Path | BytesIO | object
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """The chunks of a data set, which are prepared one by one, and videos that were ruled out already (key, why)."""

    chunks: list[object]
    skipped: list[tuple[str, str]] = field(default_factory=list)


class DataSet(Protocol):
    """A layout. It is sent to other processes, so it holds settings and paths, no open file."""

    needs_captions: bool

    def find(self, chunk: int) -> Found:
        """Look at folders and lists, decode nothing. `chunk` is the number of videos in one. Raises DataError."""

    def items(self, chunk: object) -> Iterator[Item]:
        """The videos of one of `find`'s chunks. Raises VideoError where the chunk itself breaks off."""

    def pictures(self, item: Item, size: tuple[int, int], fps: float | None) -> tuple[Iterator[Picture], float]:
        """Pictures (height, width, 3) of `size` in order, and their rate. Raises VideoError, at the latest in use."""


def chunked(items: list[Item], chunk: int) -> list[object]:
    """Lists of at most `chunk` items."""
    return [items[start : start + chunk] for start in range(0, len(items), chunk)]


def missing_sentence(listing: Path, missing: list[str], folder: Path) -> str:
    """`captions.csv names 2 videos that are not in clips: a.mp4, b.mp4`."""
    shown = ", ".join(missing[:NAMED_IN_AN_ERROR]) + (", ..." if len(missing) > NAMED_IN_AN_ERROR else "")
    videos = "a video that is" if len(missing) == 1 else f"{len(missing)} videos that are"
    return f"{listing} names {videos} not in {folder}: {shown}"

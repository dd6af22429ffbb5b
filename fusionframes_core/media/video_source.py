"""What a video is to its readers, whatever it lies in: facts, and pictures that are read one after the other."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from .frames import Frames
from .timeline import TimedPicture, Timeline, at_rate, make_timeline


class VideoFileError(ValueError):
    """A file that cannot be read as a video, in one sentence that names it; `reason` is the same in short."""

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class DamagedVideo(VideoFileError):
    """A video of which only `readable` of `total` pictures can be read."""

    def __init__(self, name: object, readable: int, total: int) -> None:
        self.readable, self.total = readable, total
        reason = f"{readable} of {total} frames could be read"
        super().__init__(f"'{name}' must be a whole video file: {reason}", f"broken: {reason}")


@dataclass(frozen=True)
class VideoFacts:
    """What is known before a picture is asked for.

    `size` is (height, width) as it is shown: upright, with square pixels. `timeline` is that of the pictures which are
    in the file, damaged ones among them; it says that it has `declared`. `sounds` is the number of audio streams;
    `start` is when the first picture is shown, in seconds after the first of anything.
    """

    size: tuple[int, int]
    timeline: Timeline
    declared: int
    sounds: int = 0
    start: float = 0.0


class VideoSource(ABC):
    """A video that can be read any number of times; no more than a few of its pictures are in memory."""

    name: str
    facts: VideoFacts
    path: Path | None = None  # of a file that may have sound
    allow_damaged: bool = False

    @abstractmethod
    def frames(self, size: tuple[int, int] | None = None) -> Iterator[TimedPicture]:
        """The pictures with their times, scaled to `size` (height, width) if given.

        Raises DamagedVideo at the end where some could not be read (unless that is allowed), and VideoFileError where
        the video changes its size: `size` would squash what comes then.
        """

    def pictures(self, rate: Fraction | None = None, size: tuple[int, int] | None = None) -> Iterator[Frames]:
        """The pictures at a constant rate, by default the video's own or its average."""
        return at_rate(self.frames(size), self.facts.timeline, rate)

    def check(self, most: int | None = None) -> Timeline:
        """The time line of what can be read, found by reading it (the first `most` pictures). Raises as `frames`."""
        times = [frame.time for frame in itertools.islice(self.frames(self.facts.size), most)]
        return make_timeline(times, None, (self.facts.timeline.rate,))

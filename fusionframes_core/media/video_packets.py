"""What the packets of a file say without being decoded: which stream is the video, when, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from .file_structure import is_broken

_BROADCAST = ("mpegts", "mpeg")  # recordings, which may begin amid frames that nothing can decode
_SAY_DURATION = {"matroska": (1.5, 0.0), "flv": (0.75, 0.03), "asf": (1.5, 0.5)}
"""Formats whose header says how long the whole file is; in how many frames, and seconds, it may err."""
_MOSTLY = 0.9  # of the intervals are alike: what is missing in others can be counted
_SEAM = 2  # packets from one that breaks off to the keyframe that a joined recording begins with


_GAP = 1.5  # intervals


@dataclass
class Packets:
    """What the packets of one stream say."""

    pts: list[int] = field(default_factory=list)
    count: int = 0
    keyframes: dict[int, int] = field(default_factory=dict)  # their places, and how many of `pts` come before
    corrupt: list[int] = field(default_factory=list)
    _end: int = 0
    _last: int = 0

    def add(self, packet: Any) -> None:
        """One more, in the order of the file."""
        if packet.is_keyframe:
            self.keyframes[self.count] = len(self.pts)
        if packet.is_corrupt:
            self.corrupt.append(self.count)
        self.count += 1
        if packet.pts is not None and not packet.is_discard:
            self.pts.append(packet.pts)
            if packet.pts + (packet.duration or 0) >= self._end:
                self._end, self._last = packet.pts + (packet.duration or 0), packet.duration or 0

    @property
    def last(self) -> int:
        """How long the last in time is shown, in ticks; where it does not say, as in FLV, as long as usual."""
        return self._last or round(self.interval)

    @property
    def end(self) -> int:
        """When the last in time ends, in ticks."""
        return self._end - self._last + self.last

    @property
    def interval(self) -> float:
        """Ticks between two, usually; 0 for a single one."""
        return float(np.median(np.diff(np.sort(self.pts)))) if len(self.pts) > 1 else 0.0

    @property
    def gaps(self) -> int:
        """How many would be between those that are further apart than usual, or 1 where it is not known how many."""
        if not self.interval:
            return 0
        steps = np.round(np.diff(np.sort(self.pts)) / self.interval)
        left_out = int(np.maximum(steps - 1, 0).sum())
        return left_out if np.mean(steps == 1) >= _MOSTLY else min(left_out, 1)

    @property
    def breaks(self) -> int:
        """How often packets of a recording have lost something since its first keyframe.

        Where recordings were joined, the last packet before the seam says so too, and has not.
        """
        first = min(self.keyframes, default=0)
        ends = [place for place in self.corrupt if place + 1 not in self.corrupt and place >= first]
        return sum(not self._is_seam(end) for end in ends)

    def _is_seam(self, place: int) -> bool:
        """Whether a keyframe soon comes after a packet, and not later in time than the one after the last."""
        key = next((key for key in range(place + 1, place + 1 + _SEAM) if key in self.keyframes), None)
        if key is None:
            return False
        before, after = self.pts[: self.keyframes[key]], self.pts[self.keyframes[key] :]
        return not (before and after and min(after) - max(before) > _GAP * self.interval)


@dataclass(frozen=True)
class Scanned:
    """The packets of every stream by its index, and when the first stream begins and the last one ends, in seconds."""

    packets: Mapping[int, Packets]
    start: float | None
    end: float


@dataclass(frozen=True)
class Stream:
    """The stream that is the video: its index, its seconds a tick, ticks at its first picture; how many pictures are
    missing, and how many at least where they are not missed otherwise."""

    index: int
    tick: Fraction
    first: int
    rates: tuple[Fraction | None, ...]
    aspect: Fraction
    missing: int
    lost: int
    last: float
    broadcast: bool


def scan(container: Any) -> Scanned:
    """Every packet. Where the file breaks off, what came before it counts."""
    import av

    found = {stream.index: Packets() for stream in container.streams}
    try:
        for packet in container.demux():
            if packet.size:
                found.setdefault(packet.stream_index, Packets()).add(packet)
    except (av.FFmpegError, OSError):
        pass
    start = container.start_time / 1e6 if container.start_time is not None else None
    ends = [float(found[stream.index].end * stream.time_base) for stream in container.streams if stream.time_base]
    return Scanned(found, start, max(ends, default=0.0))


def main_stream(container: Any, scanned: Scanned) -> Any:
    """The video stream that is the video: no cover, no thumbnail; of several, the one that the file calls default."""
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    moving = [stream for stream in container.streams.video if not stream.disposition & pictures]
    several = [stream for stream in moving if scanned.packets[stream.index].count > 1]
    moving = several or moving or container.streams.video
    return next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])


def describe(container: Any, stream: Any, scanned: Scanned, file: BinaryIO) -> Stream:
    """What is known of the stream that is the video; `file` is the container's."""
    said = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    packets = scanned.packets[stream.index]
    broadcast = container.format.name in _BROADCAST
    return Stream(
        index=stream.index,
        tick=Fraction(stream.time_base),
        first=min(packets.pts, default=0),
        rates=tuple(Fraction(rate) if rate else None for rate in said),
        aspect=Fraction(aspect) if aspect else Fraction(1),
        missing=_missing(container, stream, scanned),
        lost=_lost(container, packets, file),
        last=float(packets.last * stream.time_base),
        broadcast=broadcast,
    )


def _missing(container: Any, stream: Any, scanned: Scanned) -> int:
    """How many frames the file says that it has and has not, because it ends too early."""
    packets, kinds = scanned.packets[stream.index], container.format.name.split(",")
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    if "mov" in kinds:
        return max(0, sum(not entry.is_discard for entry in stream.index_entries) - packets.count)
    if "avi" in kinds:
        lost = stream.frames - round(float(packets.end * stream.time_base) * rate)
        return lost if lost > 1 and packets.pts else 0
    slack = next((_SAY_DURATION[kind] for kind in kinds if kind in _SAY_DURATION), None)
    if container.duration and slack is not None:
        seconds = container.duration / 1e6 - scanned.end
        return round(seconds * rate) if seconds > max(slack[0] / rate, slack[1]) else 0
    return 0


def _lost(container: Any, packets: Packets, file: BinaryIO) -> int:
    """How many frames at least are lost where the file has a hole or breaks off, though FFmpeg says nothing."""
    if container.format.name in _BROADCAST:
        return max(packets.breaks, packets.gaps) if packets.breaks else 0
    kinds = container.format.name.split(",")
    if "matroska" in kinds:  # it is not looked through, block by block, where nothing is missing in time
        return packets.gaps if packets.gaps and is_broken(file, kinds) else 0
    return int(is_broken(file, kinds))

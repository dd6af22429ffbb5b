"""Video files through FFmpeg (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ..files import stand_in, stand_in_at
from .frame_colour import ToPicture, UnsupportedColours, shown_size
from .frames import Frames
from .timeline import TimedPicture, Timeline, make_timeline
from .video_source import DamagedVideo, VideoFacts, VideoFileError, VideoSource

_BROADCAST = ("mpegts", "mpeg")  # recordings, which may begin amid frames that nothing can decode
_SAY_DURATION = ("matroska", "flv")  # formats whose header says how long the whole file is
_SMALL = (8, 8)  # of a picture that nobody looks at
_GIF_END = b";"


@contextmanager
def opened(source: Path | BytesIO, name: str) -> Iterator[Any]:
    """The container of a file, or of one in memory, from its beginning. Raises VideoFileError.

    FFmpeg gets the opened file, not its name, in which it would read protocols (`a:b.mp4`) and patterns (`%d.png`).
    Titles that are no UTF-8 are common in AVI files, and nobody reads them here.
    """
    import av

    with ExitStack() as stack:
        # What is done with the container is not in here: a disk that is full meanwhile is no fault of this file.
        try:
            file = stack.enter_context(_bytes_of(source))
            container = stack.enter_context(av.open(file, metadata_errors="ignore"))
        except (av.FFmpegError, OSError) as error:
            why = error.strerror or str(error)
            raise VideoFileError(
                f"'{name}' must be a whole video file; it cannot be read ({why})", f"broken: {why}"
            ) from error
        yield container


def _refuse_stand_in(source: Path | BytesIO, name: str) -> None:
    what = stand_in(source.getvalue(), "videos") if isinstance(source, BytesIO) else stand_in_at(source, "videos")
    if what:
        raise VideoFileError(f"'{name}' cannot be read: it is {what}", f"broken: it is {what}")


def _bytes_of(source: Path | BytesIO) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, Path):
        return open(source, "rb")
    source.seek(0)
    return nullcontext(source)


@dataclass
class _Packets:
    """What the packets of one stream say."""

    pts: list[int] = field(default_factory=list)
    count: int = 0
    end: int = 0
    last: int = 0  # how long the last in time is shown

    def add(self, packet: Any) -> None:
        self.count += 1
        if packet.pts is not None and not packet.is_discard:
            self.pts.append(packet.pts)
            if packet.pts + (packet.duration or 0) >= self.end:
                self.end, self.last = packet.pts + (packet.duration or 0), packet.duration or 0


@dataclass(frozen=True)
class _Stream:
    """The stream that is the video: its index, its seconds a tick, ticks at its first picture, how many are missing."""

    index: int
    tick: Fraction
    first: int
    rates: tuple[Fraction | None, ...]
    aspect: Fraction
    missing: int
    last: float
    broadcast: bool


class VideoFile(VideoSource):
    """A video file, or the bytes of one. Raises VideoFileError when it is no video.

    With `allow_damaged` pictures that cannot be read are left out.
    """

    def __init__(self, source: Path | BytesIO, name: str, allow_damaged: bool = False) -> None:
        _refuse_stand_in(source, name)
        self.source, self.name, self.allow_damaged = source, name, allow_damaged
        self.path = source if isinstance(source, Path) else None
        with opened(source, name) as container:
            packets, start, end = _scan(container)
            if not container.streams.video:
                raise VideoFileError(f"'{name}' must be a video; it has no video stream", "no video stream")
            stream = _main_stream(container, packets)
            self._stream = _describe(container, stream, packets[stream.index], end, _is_cut_gif(container, source))
            sounds = len(container.streams.audio)
            timeline = self._timeline(packets[stream.index])
        self.facts = VideoFacts(
            self._size(), timeline, timeline.count + self._stream.missing, sounds, self._start(start)
        )

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[TimedPicture]:
        """See VideoSource."""
        to_picture = ToPicture(self._stream.aspect, size)
        for time, frame in self._decoded():
            yield TimedPicture(time, self._picture(frame, to_picture))

    def check(self, most: int | None = None) -> Timeline:
        """See VideoSource."""
        times = []
        for time, _ in self._decoded():
            times.append(time)
            if len(times) == most:
                break
        return make_timeline(times, self._stream.last, self._stream.rates)

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """Frames with their times. Raises DamagedVideo at the end, VideoFileError for none or several sizes."""
        stream, good, bad = self._stream, 0, 0
        shape: tuple[int, int] | None = None
        with opened(self.source, self.name) as container:
            for frame in _decode(container, container.streams[stream.index]):
                if frame is None or frame.is_corrupt:
                    bad += bool(good or not stream.broadcast)
                else:
                    shape = shape or (frame.width, frame.height)
                    self._require_size(frame, shape, good)
                    good += 1
                    yield self._time(frame, good), frame
        if not good and not bad:
            raise VideoFileError(f"'{self.name}' must be a video; it holds no frames", "no frames")
        bad += stream.missing
        if not good or (bad and not self.allow_damaged):
            raise DamagedVideo(self.name, good, good + bad)

    def _time(self, frame: Any, number: int) -> float:
        if frame.pts is None:
            rate = next((rate for rate in self._stream.rates if rate), Fraction(25))
            return float((number - 1) / rate)
        return float((frame.pts - self._stream.first) * self._stream.tick)

    def _timeline(self, packets: _Packets) -> Timeline:
        """Of the packets, which are not decoded; those of streams without times are as far apart as the header says."""
        stream = self._stream
        if len(packets.pts) < packets.count / 2:
            rate = next((rate for rate in stream.rates if rate), Fraction(25))
            return Timeline(rate, False, packets.count, packets.count / float(rate))
        times = [float(pts * stream.tick) for pts in sorted(packets.pts)]
        return make_timeline(times, stream.last, stream.rates)

    def _require_size(self, frame: Any, shape: tuple[int, int], index: int) -> None:
        if (frame.width, frame.height) != shape:
            reason = f"changes size at frame {index}: {shape[0]}x{shape[1]}, then {frame.width}x{frame.height}"
            raise VideoFileError(f"'{self.name}' must keep its size; it {reason}", reason)

    def _picture(self, frame: Any, to_picture: ToPicture) -> Frames:
        try:
            return to_picture(frame)
        except UnsupportedColours as error:
            raise VideoFileError(f"'{self.name}' cannot be used: {error}", str(error)) from error

    def _size(self) -> tuple[int, int]:
        """The first frame's, whose colours are looked at too, so that what cannot be turned is said at once."""
        for _, frame in self._decoded():
            self._picture(frame, ToPicture(size=_SMALL))
            return shown_size(frame, self._stream.aspect)
        raise AssertionError("unreachable: a stream without a frame has raised")

    def _start(self, start: float | None) -> float:
        first = float(self._stream.first * self._stream.tick)
        return max(0.0, first - start) if start is not None else 0.0


def _scan(container: Any) -> tuple[dict[int, _Packets], float | None, float]:
    """The packets of every stream by its index, and when the first stream begins and the last one ends, in seconds.

    Where the file breaks off, what came before it counts.
    """
    import av

    found = {stream.index: _Packets() for stream in container.streams}
    try:
        for packet in container.demux():
            if packet.size:
                found.setdefault(packet.stream_index, _Packets()).add(packet)
    except (av.FFmpegError, OSError):
        pass
    start = container.start_time / 1e6 if container.start_time is not None else None
    ends = [float(found[stream.index].end * stream.time_base) for stream in container.streams if stream.time_base]
    return found, start, max(ends, default=0.0)


def _main_stream(container: Any, packets: dict[int, _Packets]) -> Any:
    """The video stream that is the video: no cover, no thumbnail; of several, the one that the file calls default."""
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    moving = [stream for stream in container.streams.video if not stream.disposition & pictures]
    moving = [stream for stream in moving if packets[stream.index].count > 1] or moving or container.streams.video
    return next((stream for stream in moving if stream.disposition & Disposition.default), moving[0])


def _describe(container: Any, stream: Any, packets: _Packets, end: float, cut: bool) -> _Stream:
    said = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return _Stream(
        index=stream.index,
        tick=Fraction(stream.time_base),
        first=min(packets.pts, default=0),
        rates=tuple(Fraction(rate) if rate else None for rate in said),
        aspect=Fraction(aspect) if aspect else Fraction(1),
        missing=max(_missing(container, stream, packets, end), int(cut)),
        last=float(packets.last * stream.time_base),
        broadcast=container.format.name in _BROADCAST,
    )


def _missing(container: Any, stream: Any, packets: _Packets, end: float) -> int:
    """How many frames the file says that it has and has not, because it ends too early."""
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    kinds = container.format.name.split(",")
    if "mov" in kinds:
        return max(0, sum(not entry.is_discard for entry in stream.index_entries) - packets.count)
    if "avi" in kinds:
        lost = stream.frames - round(float(packets.end * stream.time_base) * rate)
        return lost if lost > 1 and packets.pts else 0
    if container.duration and any(kind in _SAY_DURATION for kind in kinds):
        lost = (container.duration / 1e6 - end) * rate
        return round(lost) if lost > 1.5 else 0
    return 0


def _is_cut_gif(container: Any, source: Path | BytesIO) -> bool:
    """Whether a GIF lacks its trailer, which is all that tells that it was cut off."""
    if container.format.name != "gif":
        return False
    data = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
    return not data.rstrip(b"\0").endswith(_GIF_END)


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames, None for each packet that cannot be decoded; ends where the file breaks off.

    Slices are decoded in parallel, not frames: frame threads lose the errors of the packets that they hold.
    """
    import av

    stream.thread_type = "SLICE"
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            yield None
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except av.FFmpegError:
            yield None

"""Video files through FFmpeg (PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ..files import stand_in, stand_in_at
from .frame_colour import ToPicture, UnsupportedColours, shown_size
from .frames import Frames
from .timeline import TimedPicture, Timeline, make_timeline
from .video_packets import Packets, describe, main_stream, scan
from .video_source import DamagedVideo, VideoFacts, VideoFileError, VideoSource


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
    return nullcontext(BytesIO(source.getvalue()))  # a copy of the place, not of the bytes


class VideoFile(VideoSource):
    """A video file, or the bytes of one. Raises VideoFileError when it is no video.

    With `allow_damaged` pictures that cannot be read are left out.
    """

    def __init__(self, source: Path | BytesIO, name: str, allow_damaged: bool = False) -> None:
        _refuse_stand_in(source, name)
        self.source, self.name, self.allow_damaged = source, name, allow_damaged
        self.path = source if isinstance(source, Path) else None
        with opened(source, name) as container:
            scanned = scan(container)
            if not container.streams.video:
                raise VideoFileError(f"'{name}' must be a video; it has no video stream", "no video stream")
            stream = main_stream(container, scanned)
            packets = scanned.packets[stream.index]
            with _bytes_of(source) as file:
                self._stream = describe(container, stream, scanned, file)
            sounds = len(container.streams.audio)
            timeline = self._timeline(packets)
        self.facts = VideoFacts(
            self._size(), timeline, timeline.count + self._stream.missing, sounds, self._start(scanned.start)
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
        bad = bad + stream.missing or stream.lost
        if not good or (bad and not self.allow_damaged):
            raise DamagedVideo(self.name, good, good + bad)

    def _time(self, frame: Any, number: int) -> float:
        if frame.pts is None:
            rate = next((rate for rate in self._stream.rates if rate), Fraction(25))
            return float((number - 1) / rate)
        return float((frame.pts - self._stream.first) * self._stream.tick)

    def _timeline(self, packets: Packets) -> Timeline:
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
            self._picture(frame, ToPicture())
            return shown_size(frame, self._stream.aspect)
        raise AssertionError("unreachable: a stream without a frame has raised")

    def _start(self, start: float | None) -> float:
        first = float(self._stream.first * self._stream.tick)
        return max(0.0, first - start) if start is not None else 0.0


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

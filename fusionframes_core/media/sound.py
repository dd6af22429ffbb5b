"""The sound of a video file, on its way into an MP4: copied where MP4 can hold it, else encoded as AAC."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from .video_file import opened
from .video_source import VideoFileError

_COPIED = ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
"""Codecs that MP4 holds and players know there."""
_LEAST_MP3_RATE = 16000
"""Below, MP3 is MPEG-2.5, which is no standard and has no place in MP4."""
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_DEFAULT_RATE = 48000
_BITS_A_CHANNEL = 96_000


@dataclass(frozen=True)
class Sound:
    """All audio of the file at `path`.

    `video_start` is when its first picture is shown, in seconds after the first of anything, which is time 0; sound
    after `end` is left out (None: none is). Damaged sound raises VideoFileError while it is read unless it is allowed.
    """

    path: Path
    video_start: float = 0.0
    end: float | None = None
    allow_damaged: bool = False

    @contextmanager
    def opened(self) -> Iterator[SoundTracks]:
        """The tracks, ready to be written."""
        with opened(self.path, str(self.path)) as container:
            yield SoundTracks(self, container)


class SoundTracks:
    """The audio streams of an open container, moved packet by packet into another one."""

    def __init__(self, sound: Sound, container: Any) -> None:
        self.video_start = sound.video_start
        self._sound = sound
        self._zero = (container.start_time or 0) / 1e6
        self._streams = list(container.streams.audio)
        self._packets: Iterator[Any] = container.demux(*self._streams) if self._streams else iter(())
        self._held: deque[Any] = deque()  # at most one packet that is not yet due
        self._ways: dict[int, _Copied | _Encoded] = {}

    def add_streams(self, output: Any) -> None:
        """Streams for the tracks; to be called before anything is written."""
        for stream in self._streams:
            way = _Copied if _is_held(stream.codec_context) else _Encoded
            self._ways[stream.index] = way(output, stream, self._zero)

    def write_until(self, output: Any, time: float) -> None:
        """Everything that begins before `time` (seconds)."""
        while (packet := self._next()) is not None:
            begin = self._begin(packet)
            if self._sound.end is not None and begin >= self._sound.end:
                continue
            if begin > time:
                self._held.append(packet)
                return
            self._write(output, packet)

    def finish(self, output: Any) -> None:
        """The rest, and what encoders hold back."""
        self.write_until(output, float("inf"))
        for way in self._ways.values():
            way.finish(output)

    def _next(self) -> Any:
        """The next packet that holds anything, or None after the last."""
        import av

        if self._held:
            return self._held.popleft()
        while True:
            try:
                packet = next(self._packets, None)
            except (av.FFmpegError, OSError) as error:
                self._damaged(error)
                return None
            if packet is None or (packet.size and packet.dts is not None):
                return packet

    def _begin(self, packet: Any) -> float:
        return float(packet.dts * packet.time_base) - self._zero

    def _write(self, output: Any, packet: Any) -> None:
        import av

        try:
            self._ways[packet.stream.index].write(output, packet)
        except (av.error.InvalidDataError, av.error.EOFError) as error:
            self._damaged(error)

    def _damaged(self, error: Exception) -> None:
        if not self._sound.allow_damaged:
            raise VideoFileError(
                f"'{self._sound.path}' must be a whole video file: its sound cannot be read", "damaged: its sound"
            ) from error


def _is_held(context: Any) -> bool:
    """Whether MP4 holds a track as it is."""
    name = context.codec.canonical_name  # FFmpeg has several decoders of a codec: mp3float is that of MP3
    return name in _COPIED and not (name == "mp3" and context.sample_rate < _LEAST_MP3_RATE)


class _Copied:
    """A track whose packets go over as they are."""

    def __init__(self, output: Any, stream: Any, zero: float) -> None:
        self.stream = output.add_stream_from_template(stream)
        self.shift = round(zero / stream.time_base)

    def write(self, output: Any, packet: Any) -> None:
        packet.pts = packet.dts - self.shift if packet.pts is None else packet.pts - self.shift
        packet.dts -= self.shift
        packet.stream = self.stream
        output.mux(packet)

    def finish(self, output: Any) -> None:
        """Nothing is held back."""


class _Encoded:
    """A track that is decoded and encoded as AAC, in stereo at most."""

    def __init__(self, output: Any, stream: Any, zero: float) -> None:
        from av import AudioResampler

        context = stream.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else _DEFAULT_RATE
        channels = min(context.channels, 2)
        layout = "mono" if channels == 1 else "stereo"
        self.stream = output.add_stream("aac", rate=rate, layout=layout)
        self.stream.bit_rate = _BITS_A_CHANNEL * channels
        self.resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
        self.zero = zero

    def write(self, output: Any, packet: Any) -> None:
        for frame in packet.decode():
            if frame.pts is not None:
                # In samples: the ticks of AVI are as long as a packet, and the encoder cuts packets of another length.
                frame.pts = round((float(frame.pts * frame.time_base) - self.zero) * frame.sample_rate)
                frame.time_base = Fraction(1, frame.sample_rate)
            self._encode(output, frame)

    def finish(self, output: Any) -> None:
        """What the resampler and the encoder hold back."""
        self._encode(output, None)
        output.mux(self.stream.encode(None))

    def _encode(self, output: Any, frame: Any) -> None:
        for part in self.resampler.resample(frame):
            output.mux(self.stream.encode(part))

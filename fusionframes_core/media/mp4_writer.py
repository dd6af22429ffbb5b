"""H.264 in MP4, one picture after the other, with the sound of another file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_path
from .frames import Frames
from .sound import Sound, SoundTracks

# x264's macroblock-tree rate control reads uninitialised memory at widths that are no multiple of 128, 64 among them,
# so that the same frames come out as different files.
_X264_PARAMS = "mbtree=0"
_CRF = "14"  # constant quality of x264: 0 is lossless, 18 looks so, 51 is worst
_MAX_RATE_DENOMINATOR = 100_000
_MIN_FPS = Fraction(1, 500)  # a GIF shows no picture longer than 655 s, and far lower rates no MP4 holds


def as_rate(fps: float | Fraction) -> Fraction:
    """A frame rate as containers hold it. Raises ValueError unless it is finite and at least 0.002."""
    if not (math.isfinite(fps) and fps >= _MIN_FPS):
        raise ValueError(f"fps must be a finite number of at least {float(_MIN_FPS):g}; got {float(fps):g}")
    return Fraction(fps).limit_denominator(_MAX_RATE_DENOMINATOR)


class Mp4Writer:
    """Writes pictures of one size into an open container, and the sound up to each."""

    def __init__(self, container: Any, rate: Fraction, sound: SoundTracks | None) -> None:
        self._container, self._rate, self._sound = container, rate, sound
        self._offset = round(sound.video_start * rate) if sound is not None else 0
        self._stream: Any = None
        self._count = 0

    def write(self, picture: Frames) -> None:
        """One picture (H, W, 3), uint8; an odd side gets its last row or column twice."""
        import av
        from av.video.reformatter import ColorRange, Colorspace

        picture = np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._add_stream(picture)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        frame.pts, frame.time_base = self._count + self._offset, 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self._count += 1
        if self._sound is not None:
            self._sound.write_until(self._container, float(frame.pts / self._rate))

    def finish(self) -> None:
        """What the encoder holds back, and the rest of the sound."""
        if self._stream is None:
            raise ValueError("frames must be at least one; got none")
        self._container.mux(self._stream.encode())
        if self._sound is not None:
            self._sound.finish(self._container)

    def _add_stream(self, picture: Frames) -> Any:
        from av.video.reformatter import ColorRange, Colorspace

        options = {"crf": _CRF, "preset": "medium", "x264-params": _X264_PARAMS}
        stream: Any = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self._rate
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = 1, 1  # BT.709
        if self._sound is not None:
            self._sound.add_streams(self._container)
        return stream


@contextmanager
def mp4_writer(path: str | Path, fps: float | Fraction, sound: Sound | None = None) -> Iterator[Mp4Writer]:
    """A writer of H.264 (yuv420p, BT.709) that any player shows; the file appears when all is written."""
    import av

    rate = as_rate(fps)
    with ExitStack() as stack:
        partial = stack.enter_context(atomic_path(path))
        tracks = stack.enter_context(sound.opened()) if sound is not None else None
        # FFmpeg reads a protocol in a name with a colon.
        name = f"file:{partial.absolute()}"
        container = stack.enter_context(av.open(name, "w", options={"movflags": "+faststart"}))
        writer = Mp4Writer(container, rate, tracks)
        yield writer
        writer.finish()

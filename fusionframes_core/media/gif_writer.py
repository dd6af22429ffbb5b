"""Endless GIFs with a palette of their own, one picture after the other."""

from __future__ import annotations

import math
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..files import atomic_path
from .frames import Frames
from .mp4_writer import as_rate

MAX_FPS = 50
"""GIF counts in hundredths of a second, and players take a delay of less than two for ten."""


def thinning(fps: float | Fraction) -> int:
    """Every how many frames one is written."""
    return max(1, math.ceil(as_rate(fps) / MAX_FPS))


class GifWriter:
    """Takes pictures of one size; keeps them on the disk, packed, until the palette of them all is known."""

    def __init__(self, path: Path, rate: Fraction, spool: IO[bytes]) -> None:
        self._path, self._every, self._spool = path, thinning(rate), spool
        self._rate = rate / self._every
        self._palette: _Palette | None = None
        self._shape: tuple[int, ...] = ()
        self._lengths: list[int] = []
        self._taken = 0

    def write(self, picture: Frames) -> None:
        """One picture (H, W, 3), uint8; one that is too many for GIF's clock is left out."""
        self._taken += 1
        if (self._taken - 1) % self._every:
            return
        if self._palette is None:
            self._shape = picture.shape
            self._palette = _Palette(picture, self._rate)
        self._palette.add(picture)
        self._lengths.append(self._spool.write(zlib.compress(np.ascontiguousarray(picture).tobytes(), level=1)))

    def finish(self) -> None:
        """Write the file."""
        import av

        if self._palette is None:
            raise ValueError("frames must be at least one; got none")
        with av.open(f"file:{self._path.absolute()}", "w", options={"loop": "0"}) as container:
            stream: Any = container.add_stream("gif", rate=self._rate)
            stream.height, stream.width = self._shape[:2]
            stream.pix_fmt = "pal8"
            for frame in self._palette.use(self._pictures()):
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    def _pictures(self) -> Iterator[Frames]:
        self._spool.seek(0)
        for length in self._lengths:
            yield np.frombuffer(zlib.decompress(self._spool.read(length)), np.uint8).reshape(self._shape)


class _Palette:
    """256 colours chosen for the whole video, through FFmpeg's palettegen and paletteuse."""

    def __init__(self, example: Frames, rate: Fraction) -> None:
        from av.filter import Graph

        self._example, self._rate, self._count = example, rate, 0
        self._graph = Graph()
        source, generate = self._source(self._graph), self._graph.add("palettegen")
        source.link_to(generate)
        generate.link_to(self._graph.add("buffersink"))
        self._graph.configure()

    def add(self, picture: Frames) -> None:
        """Count a picture's colours."""
        self._graph.push(self._frame(picture, self._count))
        self._count += 1

    def use(self, pictures: Iterator[Frames]) -> Iterator[Any]:
        """The pictures, the same as were added, in the palette's colours, as PyAV frames."""
        from av.filter import Graph

        self._graph.push(None)
        palette: Any = self._graph.pull()
        graph = Graph()
        source, colours = (
            self._source(graph),
            graph.add_buffer(
                width=palette.width, height=palette.height, format=palette.format, time_base=1 / self._rate
            ),
        )
        use = graph.add("paletteuse", "dither=none")
        source.link_to(use, input_idx=0)
        colours.link_to(use, input_idx=1)
        use.link_to(graph.add("buffersink"))
        graph.configure()
        colours.push(palette)
        colours.push(None)
        for index, picture in enumerate(pictures):
            source.push(self._frame(picture, index))
            yield graph.pull()

    def _source(self, graph: Any) -> Any:
        import av

        height, width = self._example.shape[:2]
        return graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=1 / self._rate)

    def _frame(self, picture: Frames, index: int) -> Any:
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = index, 1 / self._rate
        return frame


@contextmanager
def gif_writer(path: str | Path, fps: float | Fraction) -> Iterator[GifWriter]:
    """A writer of at most MAX_FPS; of more, every second, third, ... frame is kept. The file appears when all is in."""
    rate = as_rate(fps)
    with atomic_path(path) as partial, tempfile.TemporaryFile(dir=partial.parent) as spool:
        writer = GifWriter(partial, rate, spool)
        yield writer
        writer.finish()

"""Pictures as PNG files: one, or a folder of numbered frames."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..files import atomic_path
from .frames import Frames

FRAME_NAME = "frame_{:04d}.png"


class PngWriter:
    """Writes frame_0000.png, frame_0001.png, ... into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.count = 0

    def write(self, picture: Frames) -> None:
        """One picture (H, W, 3), uint8."""
        (self._folder / FRAME_NAME.format(self.count)).write_bytes(_png(picture))
        self.count += 1


@contextmanager
def png_writer(folder: str | Path) -> Iterator[PngWriter]:
    """A writer of a folder of frames, which appear when all are written; older ones are replaced or removed."""
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".frames.", dir=folder.parent))
    try:
        writer = PngWriter(partial)
        yield writer
        if not writer.count:
            raise ValueError("frames must be at least one; got none")
        folder.mkdir(exist_ok=True)
        for file in sorted(partial.iterdir()):
            os.replace(file, folder / file.name)
        for old in folder.glob("frame_*.png"):
            number = old.stem.removeprefix("frame_")
            if number.isdigit() and int(number) >= writer.count:
                old.unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_png(picture: Frames, path: str | Path) -> None:
    """Write one picture (H, W, 3)."""
    with atomic_path(path) as partial:
        partial.write_bytes(_png(picture))


def _png(picture: Frames) -> bytes:
    import av

    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = frame.width, frame.height, "rgb24", Fraction(1)
    return b"".join(bytes(packet) for packet in (*codec.encode(frame), *codec.encode()))

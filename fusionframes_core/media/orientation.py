"""How stored pictures are brought upright: as a video's display matrix says, or a photograph's EXIF tag."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from .frames import Frames

_KINDS_TO_COME = 32  # of side data, that FFmpeg may have and PyAV no name for


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is brought upright: its axes are swapped first, then it is mirrored."""

    transposed: bool = False
    mirrored_across: bool = False
    mirrored_down: bool = False

    def __call__(self, picture: Frames) -> Frames:
        """The picture (H, W, 3) upright."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        down, across = -1 if self.mirrored_down else 1, -1 if self.mirrored_across else 1
        return picture[::down, ::across]

    def swapped(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) upright of a stored picture's, and the other way round."""
        return size[::-1] if self.transposed else size


_EXIF = {
    2: Orientation(False, True, False),
    3: Orientation(False, True, True),
    4: Orientation(False, False, True),
    5: Orientation(True, False, False),
    6: Orientation(True, True, False),
    7: Orientation(True, True, True),
    8: Orientation(True, False, True),
}


def exif_orientation(image: Any) -> Orientation:
    """What the EXIF tag of a Pillow image says; one that is broken says nothing."""
    from PIL import ExifTags

    try:
        return _EXIF.get(image.getexif().get(ExifTags.Base.Orientation), Orientation())
    except (SyntaxError, ValueError, OSError, struct.error):
        return Orientation()


def orientation(frame: Any) -> Orientation:
    """What the frame's display matrix says, to the nearest quarter turn; cameras write turns, and mirror selfies."""
    said = _side_data(frame).get("DISPLAYMATRIX")
    if said is None:
        return Orientation()
    # x' = a·x + c·y, y' = b·x + d·y (and a place), as libavutil's display.h has it.
    a, b, _, c, d = np.frombuffer(bytes(said)[:20], np.int32)
    if abs(int(a)) >= abs(int(b)):
        return Orientation(False, bool(a < 0), bool(d < 0))
    return Orientation(True, bool(c < 0), bool(b < 0))


def _side_data(frame: Any) -> Any:
    """What comes with a frame beside its pixels, as far as PyAV has names for it: EXIF, which it raises at, goes."""
    from av.filter import Graph
    from av.sidedata.sidedata import Type

    try:
        return frame.side_data
    except ValueError:
        graph = Graph()
        last = graph.add("buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1")
        kinds: Any = Type
        first = 1 + max(kind.value for kind in kinds)
        for kind in range(first, first + _KINDS_TO_COME):
            delete = graph.add("sidedata", f"mode=delete:type={kind}")
            last.link_to(delete)
            last = delete
        last.link_to(graph.add("buffersink"))
        graph.configure()
        graph.push(frame)
        return graph.pull().side_data

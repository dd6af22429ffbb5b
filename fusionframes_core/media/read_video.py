"""Video files in, through PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .frames import Frames


def read_video(
    path: str | Path, size: tuple[int, int] | None = None, max_frames: int | None = None
) -> tuple[Frames, Fraction]:
    """Frames and frame rate of a video file, resized to `size` (height, width) if given.

    Raises ValueError when the file is missing, is no video, or holds no frame.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no video at '{path}': the file does not exist")
    pictures = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"'{path}' must be a video; it has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            rate = stream.average_rate or stream.guessed_rate
            for frame in container.decode(stream):
                pictures.append(_picture(frame, size))
                if max_frames is not None and len(pictures) == max_frames:
                    break
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"'{path}' must be a whole video file; it cannot be read ({error.strerror})") from error
    if not pictures or not rate:
        raise ValueError(f"'{path}' must be a video; it holds no frames")
    return np.stack(pictures), Fraction(rate)


def _picture(frame: Any, size: tuple[int, int] | None) -> Frames:
    """A decoded frame as RGB (H, W, 3), upright and resized."""
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    if size is not None:
        height, width = size if turns % 2 == 0 else size[::-1]
        frame = frame.reformat(width=width, height=height, interpolation="AREA" if height < frame.height else "LANCZOS")
    return np.rot90(frame.to_ndarray(format="rgb24"), turns)

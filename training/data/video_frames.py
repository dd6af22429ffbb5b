"""Pictures of a video file, one after the other, upright, cropped to the wanted shape and resized."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from .items import Picture, VideoError

DEFAULT_RATE = 24.0  # of a file that does not say; the paper's videos have about 24


def fit(picture: Picture, size: tuple[int, int]) -> Picture:
    """The middle of a picture (H, W, 3) in the shape of `size` (height, width), resized to it."""
    height, width = picture.shape[:2]
    scale = min(height / size[0], width / size[1])
    rows, columns = (min(side, round(wanted * scale)) for side, wanted in zip((height, width), size, strict=True))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = picture[top : top + rows, left : left + columns]
    if middle.shape[:2] == size:
        return np.ascontiguousarray(middle)
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(middle, size[::-1], interpolation=method).astype(np.uint8, copy=False)


def decode(source: Path | BytesIO, size: tuple[int, int], fps: float | None) -> tuple[Iterator[Picture], float]:
    """Pictures of a file, and their rate: `fps`, or the file's own where that is lower or `fps` is None.

    Nothing is held but the current picture. Raises VideoError when the file is broken, has no picture, or changes its
    size on the way; the last two while the pictures are read.
    """
    if isinstance(source, Path) and not source.is_file():
        raise VideoError("the file is missing")
    with _as_video_error():
        # Titles in other encodings are common in AVI files, and nobody reads them here.
        opened = source if isinstance(source, BytesIO) else str(source)
        container: Any = av.open(opened, metadata_errors="replace")
        if not container.streams.video:
            container.close()
            raise VideoError("no video stream")
        stream = container.streams.video[0]
        own = float(stream.average_rate or stream.guessed_rate or DEFAULT_RATE)
    rate = own if fps is None else min(fps, own)
    return _pictures(container, size, rate / own), rate


@contextlib.contextmanager
def _as_video_error() -> Iterator[None]:
    """Whatever a library raises about one file is why that file is skipped, in one line."""
    try:
        yield
    except VideoError:
        raise
    except (av.FFmpegError, OSError, ValueError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"broken: {' '.join(reason.split())}") from error


def _pictures(container: Any, size: tuple[int, int], share: float) -> Iterator[Picture]:
    """Every picture where `share` is 1, else that share of them, evenly spread."""
    first: tuple[int, int] | None = None
    with _as_video_error(), container:
        for index, frame in enumerate(container.decode(video=0)):
            shape = (frame.width, frame.height)
            first = first or shape
            if shape != first:
                raise VideoError(f"changes size at frame {index}: {first[0]}x{first[1]}, then {shape[0]}x{shape[1]}")
            if int((index + 1) * share + 1e-6) > int(index * share + 1e-6):
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                yield fit(np.rot90(frame.to_ndarray(format="rgb24"), turns), size)
    if first is None:
        raise VideoError("no frames")

"""Pictures of a video file, one after the other, upright, cropped to the wanted shape and resized."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import cv2
import numpy as np

from fusionframes_core.media.read_video import open_video
from fusionframes_core.media.video_source import VideoFileError

from .items import Picture, VideoError

SLOWEST = 0.98  # of the rate that is asked for: 23.976 counts as 24, 29.97 as 30


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
    """Pictures of a file (or of a folder of numbered ones), and their rate: `fps`, or the file's own if that is None.

    Times decide which pictures those are; a variable rate becomes its average. Nothing is held but the current picture.
    Raises VideoError when the file is broken or slower than `fps`, has no picture, lacks some, or changes its size on
    the way; the last two while the pictures are read.
    """
    with _as_video_error():
        video = open_video(source)
        own = video.facts.timeline.rate
        if fps is not None and own < SLOWEST * fps:
            raise VideoError(f"too slow: it has {float(own):g} FPS of {fps:g}")
        rate = own if fps is None or float(own) == fps else Fraction(fps).limit_denominator(100_000)
    return _pictures(video.pictures(rate), size), float(rate)


@contextlib.contextmanager
def _as_video_error() -> Iterator[None]:
    """Whatever a library raises about one file is why that file is skipped, in one line."""
    try:
        yield
    except VideoError:
        raise
    except VideoFileError as error:
        raise VideoError(" ".join(error.reason.split())) from error
    except (av.FFmpegError, OSError, ValueError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"broken: {' '.join(reason.split())}") from error


def _pictures(pictures: Iterator[Picture], size: tuple[int, int]) -> Iterator[Picture]:
    with _as_video_error():
        for picture in pictures:
            yield fit(picture, size)

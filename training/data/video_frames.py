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
from fusionframes_core.media.timeline import DEFAULT_RATE
from fusionframes_core.media.video_source import VideoFileError

from .items import SAME_RATE, Buckets, Footage, Picture, Rate, Size, VideoError


def fit(picture: Picture, size: Size | Buckets) -> Picture:
    """The middle of a picture (H, W, 3) in the shape of `size` (height, width), resized to it; see Buckets."""
    height, width = picture.shape[:2]
    size = size.nearest(height, width) if isinstance(size, Buckets) else size
    scale = min(height / size[0], width / size[1])
    rows, columns = (min(side, round(wanted * scale)) for side, wanted in zip((height, width), size, strict=True))
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = picture[top : top + rows, left : left + columns]
    if middle.shape[:2] == size:
        return np.ascontiguousarray(middle)
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(middle, size[::-1], interpolation=method).astype(np.uint8, copy=False)


def decode(source: Path | BytesIO, size: Size | Buckets, fps: float | None) -> Footage:
    """Pictures of a file, or of a folder of numbered ones, which are taken to be at `fps` (None: at 24).

    Times decide which pictures those are. A file has `fps` of them a second; its own rate where that is the same, or
    less, or `fps` is None; a variable one of its own becomes its average. Nothing is held but the current picture.
    Raises VideoError when the file is broken, has no picture, lacks some, or changes its size on the way; the last two
    while the pictures are read.
    """
    wanted = None if fps is None else Fraction(fps).limit_denominator(100_000)
    with _as_video_error():
        video = open_video(source, folder_rate=wanted or DEFAULT_RATE)
        own = video.facts.timeline.rate
    # Of a rate that stands for the wanted one, 24000/1001 for 24, no picture is taken twice.
    rate = own if wanted is None or own * Fraction(SAME_RATE) <= wanted else wanted
    told = Rate(float(own), video.facts.timeline.variable)
    return Footage(_pictures(video.pictures(rate), size), float(rate), told)


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


def _pictures(pictures: Iterator[Picture], size: Size | Buckets) -> Iterator[Picture]:
    with _as_video_error():
        for picture in pictures:
            yield fit(picture, size)

"""Videos in, of any kind: one door for files, bytes of files, and folders of pictures."""

from __future__ import annotations

import os
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np

from .frames import Frames
from .picture_sources import AnimatedWebP, PictureFolder, is_webp
from .timeline import DEFAULT_RATE, first_pictures
from .video_file import VideoFile
from .video_source import VideoFileError, VideoSource


def open_video(
    source: str | Path | BytesIO, allow_damaged: bool = False, folder_rate: Fraction = DEFAULT_RATE
) -> VideoSource:
    """A video file, the bytes of one, or a folder of pictures, whose rate `folder_rate` has to say.

    Raises VideoFileError (a ValueError) when it is missing, is no video, or holds no frame.
    """
    if isinstance(source, BytesIO):
        return _open_file(source, "the video", allow_damaged)
    path = Path(source)
    if os.path.isdir(path):
        return PictureFolder(path, folder_rate, allow_damaged)
    if not os.path.isfile(path):  # unlike Path's, it raises nothing where a name is too long
        raise VideoFileError(f"no video at '{path}': the file does not exist", "the file is missing")
    return _open_file(path, str(path), allow_damaged)


def read_video(
    path: str | Path, size: tuple[int, int] | None = None, max_frames: int | None = None
) -> tuple[Frames, Fraction]:
    """The first `max_frames` frames (all) and the frame rate of a video, resized to `size` (height, width) if given.

    A video of variable rate comes at its average rate. Raises VideoFileError as `open_video`, and when a file is
    damaged.
    """
    source = open_video(path)
    return np.stack(list(first_pictures(source.pictures(size=size), max_frames))), source.facts.timeline.rate


def _open_file(source: Path | BytesIO, name: str, allow_damaged: bool) -> VideoSource:
    kind = AnimatedWebP if is_webp(source) else VideoFile
    return kind(source, name, allow_damaged)

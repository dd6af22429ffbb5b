"""Which files are videos: one table of suffixes, and what lies in a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

ANIMATED_SUFFIXES = (".gif", ".webp", ".apng")
"""Video files that are pictures where nothing moves in them."""
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts"),
    *(".3gp", ".3g2", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf", *ANIMATED_SUFFIXES),
)
"""Video files that are read, in lower case; compare with `is_video`, which takes any case."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Pictures whose folder is a video."""


NUMBERED = re.compile(r"(?P<name>.*?)(?P<number>\d+)(?P<suffix>\.[^.]+)", re.DOTALL)


def is_hidden(path: Path) -> bool:
    """Whether the name begins with a dot, as those of AppleDouble files (`._a.mp4`) do."""
    return path.name.startswith(".")


def is_video(path: Path) -> bool:
    """Whether the name is that of a video file that is not hidden; the file is not looked at."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not is_hidden(path)


def is_picture(path: Path) -> bool:
    """Whether the name is that of a picture that is not hidden; the file is not looked at."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not is_hidden(path)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder by number: frame_2.png before frame_10.png."""
    return sorted((path for path in folder.iterdir() if is_picture(path) and path.is_file()), key=_by_number)


def are_numbered(names: Sequence[str]) -> bool:
    """Whether files are the frames of one video: two or more of one name and kind that differ in a number alone."""
    found = [NUMBERED.fullmatch(name.lower()) for name in names]
    kinds = {(match["name"], match["suffix"]) if match else None for match in found}
    return len(names) > 1 and len(kinds) == 1 and None not in kinds


def _by_number(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name

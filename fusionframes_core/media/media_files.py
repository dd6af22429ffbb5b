"""Which files are videos: one table of suffixes, and what lies in a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts"),
    *(".3gp", ".3g2", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".mxf", ".gif", ".webp", ".apng"),
)
"""Video files that are read, in lower case; compare with `is_video`, which takes any case."""
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Pictures whose folder is a video."""

HIDDEN = "hidden file (macOS keeps its own data in files whose names begin with ._)"


@dataclass(frozen=True)
class FoundFiles:
    """What `find_videos` found, by name: video files, folders of numbered pictures, and what is left out, with why."""

    videos: list[Path] = field(default_factory=list)
    sequences: list[Path] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)


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


def find_videos(root: Path) -> FoundFiles:
    """All videos below `root`, through linked folders too, each folder once.

    A folder without video files but with at least two pictures is a sequence.
    """
    found = FoundFiles()
    seen = {root.resolve()}
    for place, folders, names in os.walk(root, followlinks=True):
        folder = Path(place)
        folders[:] = sorted(name for name in folders if _is_new(folder / name, seen))
        files = [folder / name for name in sorted(names)]
        videos = [path for path in files if is_video(path) and path.is_file()]
        found.videos.extend(videos)
        found.skipped.extend((path, why) for path in files if (why := _why_skipped(path)))
        if not videos and sum(map(is_picture, files)) > 1:
            found.sequences.append(folder)
    found.videos.sort()
    return found


def _is_new(folder: Path, seen: set[Path]) -> bool:
    """Whether a folder is to be entered: not hidden, and not through a link to where the walk has been."""
    real = folder.resolve()
    if is_hidden(folder) or real in seen:
        return False
    seen.add(real)
    return True


def _why_skipped(path: Path) -> str:
    """Why a file with a video's suffix is no video; "" for any other."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return ""
    if is_hidden(path):
        return HIDDEN
    return "" if path.is_file() else "a link to nothing"


def _by_number(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], path.name

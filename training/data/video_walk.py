"""What lies in a folder of videos: every video once, and what looks like one and is passed over, with the reason."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fusionframes_core.media.media_files import (
    ANIMATED_SUFFIXES,
    PICTURE_SUFFIXES,
    VIDEO_SUFFIXES,
    are_numbered,
    is_hidden,
    is_picture,
    is_video,
)
from fusionframes_core.media.picture_sources import is_animated, is_webp

OTHER_VIDEO_SUFFIXES = frozenset(
    (
        *(".264", ".265", ".amv", ".av1", ".avs", ".bik", ".dav", ".divx", ".dv", ".h264"),
        *(".h265", ".hevc", ".ivf", ".m1v", ".mjpeg", ".mjpg", ".mod", ".mp4v", ".mpe", ".mpv", ".mxf"),
        *(".nut", ".obu", ".ogm", ".ogx", ".qt", ".rm", ".rmvb", ".swf", ".tod", ".trp", ".vp8", ".vp9"),
        *(".wtv", ".xvid", ".y4m"),
    )
)
"""Suffixes of videos that are not looked for: such files are listed."""
COMPANIONS = frozenset(
    (
        *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".srt", ".vtt", ".xml", ".html", ".md", ".yaml", ".yml"),
        *(*PICTURE_SUFFIXES, ".avif", ".heic", ".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".npy", ".npz"),
        *(".pt", ".safetensors", ".zip", ".tar", ".gz"),
    )
)
"""Suffixes of files that lie beside videos and are none: they are not opened."""
SOUND_AND_PICTURES = (b"M4A ", b"M4B ", b"heic", b"heix", b"mif1", b"avif")  # brands of MP4's box format
MAGIC_BYTES = 12
READ_ALREADY = "a link to a folder that is read already"
UNKNOWN = "not a known video suffix"
NO_FRAMES = "pictures that are no video: their names must differ in a number alone, and no text may lie beside one"
IN_THE_ROOT = "pictures in the folder itself: name the folder above it"


@dataclass
class Walk:
    """`files`: path in the folder, with /, → video, which is a file or a folder of numbered pictures; `texts`: path
    without suffix (NFC) → .txt; `skipped`: path, why."""

    files: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, Path] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def text_beside(self, key: str) -> Path | None:
        """The .txt that has a video's name."""
        return self.texts.get(_nfc(key) if self.files[key].is_dir() else _stem(key))


def walk_videos(root: Path) -> Walk:
    """Everything under `root`. A linked folder is read once, after the folders that lie there themselves."""
    walk, links = Walk(), [(root, "")]
    seen: set[tuple[int, int]] = set()
    while links:
        folder, name = links.pop(0)
        if name and _identity(folder) in seen:
            walk.skipped.append((name, READ_ALREADY))
            continue
        links += sorted(_walk_tree(walk, folder, name, seen), key=lambda link: link[1])
    walk.files = {key: walk.files[key] for key in sorted(walk.files, key=PurePosixPath)}
    walk.skipped.sort()
    return walk


def _walk_tree(walk: Walk, folder: Path, name: str, seen: set[tuple[int, int]]) -> list[tuple[Path, str]]:
    """Add what lies in `folder`, called `name`, without following links to folders, which are returned."""
    links: list[tuple[Path, str]] = []

    def complain(error: OSError) -> None:
        key = PurePosixPath(name, Path(error.filename).relative_to(folder).as_posix())
        walk.skipped.append((_printable(str(key)), f"cannot be opened: {error.strerror}"))

    for place, folders, files in os.walk(folder, onerror=complain):
        seen.add(_identity(Path(place)))
        inside = PurePosixPath(name, Path(place).relative_to(folder).as_posix())
        linked = [entry for entry in folders if Path(place, entry).is_symlink()]
        links += [(Path(place, entry), str(inside / entry)) for entry in linked]
        # A link to a folder above this one leads back to what was read.
        again = [entry for entry in folders if entry not in linked and _identity(Path(place, entry)) in seen]
        walk.skipped += [(_printable(str(inside / entry)), READ_ALREADY) for entry in again]
        folders[:] = [entry for entry in folders if entry not in again]
        for entry in files:
            _add(walk, Path(place, entry), str(inside / entry))
        _add_pictures(walk, Path(place), str(inside), sorted(files))
    return links


def _add_pictures(walk: Walk, folder: Path, key: str, names: list[str]) -> None:
    """Add a folder as a video where it holds numbered pictures and no video, such as `generate --out folder` writes.

    Pictures that move are videos of their own, and were added.
    """
    paths = [Path(folder, name) for name in names]
    still = (path.name for path in paths if is_picture(path))
    pictures = [name for name in still if str(PurePosixPath(key, name)) not in walk.files]
    if len(pictures) < 2 or any(is_video(path) and path.suffix.lower() not in ANIMATED_SUFFIXES for path in paths):
        return
    captioned = {Path(name).stem for name in pictures} & {path.stem for path in paths if path.suffix.lower() == ".txt"}
    if captioned or not are_numbered(pictures):
        why = NO_FRAMES
    else:
        why = IN_THE_ROOT if key == "." else _why_hidden(key)
    if why:
        walk.skipped.append((_printable(key), why))
    else:
        walk.files[key] = folder


def _add(walk: Walk, path: Path, key: str) -> None:
    suffix = path.suffix.lower()
    if suffix == ".txt" and not is_hidden(path):
        if path.suffix == ".txt" or _stem(key) not in walk.texts:
            walk.texts[_stem(key)] = path
    elif _looks_like_a_video(path):
        why = _why_skipped(path, key)
        if why:
            walk.skipped.append((_printable(key), why))
        else:
            walk.files[key] = path


def _why_skipped(path: Path, key: str) -> str:
    if path.name.startswith("._"):
        return "an AppleDouble file, which holds no video"
    if _why_hidden(key):
        return _why_hidden(key)
    if not path.is_file():
        return "a link to nothing" if path.is_symlink() else "no regular file"
    return "" if path.suffix.lower() in (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES) else UNKNOWN


def _why_hidden(key: str) -> str:
    if _printable(key) != key:
        return "its name is not UTF-8"
    return "hidden" if any(is_hidden(Path(part)) for part in PurePosixPath(key).parts) else ""


def _looks_like_a_video(path: Path) -> bool:
    """By its suffix, or by its first bytes where the suffix says nothing; a picture, where it moves."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES and suffix not in PICTURE_SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        if suffix in PICTURE_SUFFIXES:
            broken = suffix in VIDEO_SUFFIXES and not is_webp(path)
            return broken or is_animated(path)
        if suffix in COMPANIONS or suffix in OTHER_VIDEO_SUFFIXES:
            return suffix in OTHER_VIDEO_SUFFIXES
        with open(path, "rb") as file:
            return _is_video(file.read(MAGIC_BYTES))
    except OSError:
        return False


def _is_video(start: bytes) -> bool:
    """MP4 and QuickTime, AVI, Matroska and WebM, FLV, Windows Media, MPEG program streams."""
    if start[4:8] == b"ftyp":
        return start[8:12] not in SOUND_AND_PICTURES
    if start[:4] == b"RIFF":
        return start[8:12] == b"AVI "
    return start.startswith((b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", b"\x00\x00\x01\xba"))


def _stem(key: str) -> str:
    return _nfc(str(PurePosixPath(key).with_suffix("")))


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _identity(folder: Path) -> tuple[int, int]:
    found = os.stat(folder)
    return found.st_dev, found.st_ino


def _printable(name: str) -> str:
    r"""A name for a report: bytes that are no UTF-8 as `\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")

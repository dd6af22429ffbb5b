"""Whether a video is the one that was prepared: its size and time, or, where the time differs, what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

PORTION = 1 << 20  # bytes


def fingerprint(source: object) -> dict[str, Any]:
    """`size`, `modified` (ns) and `sha256` of a file, the files of a folder, or bytes; of anything else its value."""
    if isinstance(source, BytesIO):
        return {"size": source.getbuffer().nbytes, "sha256": hashlib.sha256(source.getbuffer()).hexdigest()}
    if not isinstance(source, Path):
        return {"value": source} if isinstance(source, (str, int, list, tuple)) else {}
    return _size_and_time(source) | {"sha256": _digest(source)}


def is_same(source: object, stored: Mapping[str, Any] | None) -> bool:
    """Whether `source` is what `stored` was taken of; None, in folders of older versions, is taken on trust."""
    if stored is None:
        return True
    if isinstance(source, Path):
        now = _size_and_time(source)
        if now["size"] != stored.get("size"):
            return False
        return now["modified"] == stored.get("modified") or _digest(source) == stored.get("sha256")
    found = fingerprint(source)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()} == stored


def _size_and_time(path: Path) -> dict[str, Any]:
    """A file that is missing has a size of 0."""
    found = [file.stat() for file in _files(path)]
    return {
        "size": sum(file.st_size for file in found),
        "modified": max((file.st_mtime_ns for file in found), default=0),
    }


def _digest(path: Path) -> str:
    """SHA-256 of what is in a file or folder; "" where it cannot be read."""
    total = hashlib.sha256()
    try:
        for file in _files(path):
            total.update(b"" if file == path else file.name.encode("utf-8", "surrogateescape") + b"\0")
            with open(file, "rb") as opened:
                while portion := opened.read(PORTION):
                    total.update(portion)
    except OSError:
        return ""
    return total.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    return [path] if path.is_file() else []

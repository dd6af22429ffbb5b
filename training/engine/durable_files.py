"""Files that are complete or absent, also after a power cut, and full disks in one sentence."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusionframes_core.files import atomic_path

PARTIAL = ".partial"


class DiskFull(OSError):
    """There was no room to write; what was written before is intact."""


def no_space(error: BaseException) -> bool:
    """Whether an error of any library says that the disk is full."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)


@contextlib.contextmanager
def full_disk_says(sentence: str) -> Iterator[None]:
    """Turn whatever a library raises on a full disk into DiskFull with `sentence`."""
    try:
        yield
    except Exception as error:
        if no_space(error):
            raise DiskFull(sentence) from error
        raise


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk; Windows writes the latter when it likes."""
    folder = path.is_dir()
    try:
        # For writing, as Windows wants it of a file.
        handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    except PermissionError:
        if folder:  # which Windows opens for nobody
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` in one step, making the folder: a reader finds the old file or the new one.

    JSON has no NaN and no infinity: such numbers become null.
    """
    text = json.dumps(_without_nan(content), indent=1, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as partial:
        partial.write_text(text + "\n", "utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(part) for key, part in value.items()}
    return [_without_nan(part) for part in value] if isinstance(value, list | tuple) else value


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, making the folder, and wait until it is on the disk.

    Whatever was cut off at the file's end stays a line of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        complete = file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END), file.read(1))[1] == b"\n"
        file.write((b"" if complete else b"\n") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def commit_folder(partial: Path, folder: Path) -> None:
    """Rename `partial`, a whole folder, to `folder`, once all of it is on the disk; an older `folder` goes."""
    for path in (*partial.iterdir(), partial):
        sync(path)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)
    sync(folder.parent)

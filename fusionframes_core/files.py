"""Files that appear whole or not at all, names that can be written, and what stands in the place of a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SHOWN = 16  # characters of a name that its temporary one begins with, which has to be short where the name is long
_LOOKED_AT = 512  # bytes at a file's beginning that tell a stand-in
# What a file begins with that stands in the place of another, in lower case; what it is and what to do.
_STAND_INS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"version https://git-lfs.github.com/", b"version https://hawser.github.com/"),
        "a Git LFS pointer, which only names the {}: fetch them with `git lfs pull`, or download the file itself",
    ),
    (
        (b"<!doctype", b"<html", b"<head", b"<?xml", b"<body"),
        "a web page, not {}: download the file itself, logged in where its page asks for that",
    ),
    ((b'{"error', b'{"message', b"{'error", b"access to model"), "a server's answer, not {}: download it again"),
)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix; it becomes `path` on success and is removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix if len(path.suffix) <= _SHOWN else ""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:_SHOWN]}.", suffix=suffix, dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_umask())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def home_path(path: str | Path) -> Path:
    """The path, in which a `~` at the beginning is the home folder, also where no shell has replaced it."""
    return Path(os.path.expanduser(path))


def stand_in(start: bytes, for_what: str) -> str | None:
    """What a file is that begins with `start` and was left by a download in the place of `for_what` (a plural:
    "weights"), and what to do; None: nothing of the kind."""
    start = start[:_LOOKED_AT].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return next((what.format(for_what) for beginnings, what in _STAND_INS if start.startswith(beginnings)), None)


def stand_in_at(path: str | Path, for_what: str) -> str | None:
    """`stand_in` of the file at `path`."""
    with open(path, "rb") as file:
        return stand_in(file.read(_LOOKED_AT), for_what)


def check_name(option: str, path: str | Path) -> None:
    """Raise ValueError for a path that names nothing: the empty one, or one with a zero byte."""
    if not str(path) or "\0" in str(path):
        raise ValueError(f"{option} must name a file or folder; got {str(path)!r}")


def check_writable(path: str | Path) -> None:
    """Raise ValueError unless a file can be made at `path`.

    Tries it in the nearest folder that exists: with a file of another name, and in a folder for the time being with
    each name that is missing.
    """
    path = Path(path).absolute()
    folder, missing = path.parent, [path.name]
    try:
        while not folder.exists():
            folder, missing = folder.parent, [*missing, folder.name]
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write '{path}': {folder} does not take new files ({error.strerror})") from error
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as trial:
            for name in missing:
                (Path(trial) / name).touch()
        path.exists()  # raises where the whole is too long
    except OSError as error:
        raise ValueError(f"cannot write '{path}': {error.strerror}") from error

"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SHOWN = 16  # characters of a name that its temporary one begins with, which has to be short where the name is long


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

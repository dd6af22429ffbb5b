"""Which video a name in a list of captions means: paths and Unicode are written in many ways."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fusionframes_core.media.media_files import VIDEO_SUFFIXES

from .caption_files import CaptionRow
from .items import DataError, some_of

WINDOWS_DRIVE = re.compile(r"[A-Za-z]:/")


@dataclass
class Matched:
    """`texts`: a video's path in its folder → its captions; `missing`: names without a video; `notes`: what to tell."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class VideoNames:
    """The videos of the folder `root` (path in it, with /), to be found by the names that `listing` has for them."""

    def __init__(self, keys: Iterable[str], root: Path, listing: Path) -> None:
        self.keys, self.root, self.listing = set(keys), root, listing
        self._indexes: list[dict[str, list[str]]] = []
        for form_of_key, _ in FORMS:
            index: dict[str, list[str]] = defaultdict(list)
            for key in sorted(self.keys):
                index[form_of_key(key)].append(key)
            self._indexes.append(index)

    def find(self, name: str) -> list[str]:
        """The videos that a name can mean: the first way of reading it that leads to any decides."""
        if name in self.keys:
            return [name]
        plain = name.replace("\\", "/")
        for path in self._inside(plain):
            found = self._lookup(path)
            if found:
                return found
        if not _is_absolute(name) or os.path.exists(plain):
            return []
        # An absolute path of another place or machine: what it ends with is the path in the folder.
        parts = plain.split("/")
        ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
        return sorted({key for end in ends for key in self._lookup(end)})

    def _inside(self, name: str) -> list[str]:
        """A name as a path in the folder: from the folder, or from where the list lies."""
        root = os.path.abspath(self.root)
        from_list = os.path.relpath(os.path.join(os.path.abspath(self.listing.parent), name), root)
        return [posixpath.normpath(name), from_list.replace(os.sep, "/")]

    def _lookup(self, path: str) -> list[str]:
        ways = ((index, form(path)) for index, (_, form) in zip(self._indexes, FORMS, strict=True))
        return next((index[name] for index, name in ways if name in index), [])


def match_captions(rows: list[CaptionRow], keys: Iterable[str], root: Path, listing: Path) -> Matched:
    """Captions by video. Raises DataError that names the line of a name that can mean several videos."""
    names, matched = VideoNames(keys, root, listing), Matched()
    said: dict[str, list[CaptionRow]] = defaultdict(list)
    missing: dict[str, None] = {}
    for row in rows:
        found = names.find(row.video)
        if len(found) > 1:
            raise DataError(f"{listing}, line {row.line}: {row.video!r} can mean {' or '.join(found[:3])}")
        if found:
            said[found[0]].append(row)
            matched.texts.setdefault(found[0], []).extend([row.caption] if row.caption else [])
        else:
            missing[row.video] = None
    matched.missing = list(missing)
    for key, its in said.items():
        _check_one_meaning(key, its, listing)
    several = [f"{key} (lines {', '.join(str(row.line) for row in its)})" for key, its in said.items() if len(its) > 1]
    if several:
        videos = "a video" if len(several) == 1 else f"{len(several)} videos"
        matched.notes.append(f"{listing.name} has several captions for {videos}: {some_of(several)}")
    return matched


def _check_one_meaning(key: str, rows: list[CaptionRow], listing: Path) -> None:
    """Raise DataError where names that differ in more than their way of writing lead to one video."""
    names = sorted({_plain(row.video) for row in rows})
    if len({name.rsplit("/", 1)[-1] for name in names}) > 1 or sum(map(_is_absolute, names)) > 1:
        lines = ", ".join(str(row.line) for row in rows[:3])
        raise DataError(f"{listing}, lines {lines}: {', '.join(names[:3])} would all be {key}")


def _is_absolute(name: str) -> bool:
    plain = name.replace("\\", "/")
    return plain.startswith("/") or bool(WINDOWS_DRIVE.match(plain))


def _plain(name: str) -> str:
    """A name with / and without suffix: what is left says which video it is."""
    return _without_suffix(_nfc(posixpath.normpath(name.replace("\\", "/"))))


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _nfc(_nfc(name).casefold())


def _without_suffix(name: str) -> str:
    stem, suffix = posixpath.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


Form = Callable[[str], str]
FORMS: tuple[tuple[Form, Form], ...] = (
    (_nfc, _nfc),
    (_folded, _folded),
    (lambda key: _nfc(_without_suffix(key)), _nfc),
    (lambda key: _folded(_without_suffix(key)), _folded),
)
"""How a video's path and a name are written to be compared, the strictest way first."""

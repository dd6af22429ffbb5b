"""Texts as people save them: UTF-8 with or without a byte order mark, and UTF-16 with one. Nothing is guessed."""

from __future__ import annotations

import codecs
import io
import json
from pathlib import Path
from typing import Any

from fusionframes_core.files import stand_in

ENCODINGS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
"""Byte order mark → encoding."""
UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)  # the first begins as UTF-16's does


class UnreadableText(ValueError):
    """What a file is that cannot be read as text; `reason` is the same in short."""

    def __init__(self, what: str, reason: str = "") -> None:
        super().__init__(what)
        self.reason = reason or what


class NotUTF8(UnreadableText):
    """A text is in an encoding that cannot be told."""

    def __init__(self, how: str) -> None:
        super().__init__(f"not UTF-8: {how}", "not UTF-8")


def decode_text(content: bytes) -> str:
    """The text of a file, line ends as they are. Raises NotUTF8, also for UTF-16 without a byte order mark,
    and UnreadableText for a Git LFS pointer or a web page."""
    what = stand_in(content, "captions")
    if what:
        raise UnreadableText(what)
    if content.startswith(UTF32):
        raise NotUTF8("it has UTF-32's byte order mark")
    mark = next((mark for mark in ENCODINGS if content.startswith(mark)), b"")
    try:
        text = content[len(mark) :].decode(ENCODINGS.get(mark, "utf-8"))
    except UnicodeDecodeError as error:
        raise NotUTF8(f"byte {len(mark) + error.start} means nothing ({error.reason})") from error
    if "\0" in text:
        raise NotUTF8("it has zero bytes, as UTF-16 without a byte order mark has")
    return text


def read_text(path: Path) -> str:
    """The text of a file, line ends as they are. Raises UnreadableText and OSError."""
    return decode_text(path.read_bytes())


def lines_of(text: str) -> list[str]:
    """Lines without their ends, which may be \\n, \\r\\n or \\r; other separators of Unicode are part of a line."""
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None)]


def parse_json(text: str) -> Any:
    """What a JSON text says. Raises ValueError for one that is none, and for a key that an object has twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} comes twice")
        found[key] = value
    return found


def lone_surrogate(text: str) -> str | None:
    """The first half of a surrogate pair that stands alone, which is no character, as `\\ud800`; None: none does."""
    return next((ascii(char)[1:-1] for char in text if "\ud800" <= char <= "\udfff"), None)

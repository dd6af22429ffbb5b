"""Whether a file holds together as its format says, where FFmpeg passes over what does not without a word."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import BinaryIO


def is_broken(file: BinaryIO, kinds: Iterable[str]) -> bool:
    """Whether a file of one of FFmpeg's formats `kinds` is cut off or has a hole. False for formats not known here."""
    return any(_BROKEN[kind](file) for kind in kinds if kind in _BROKEN)


def _is_broken_gif(file: BinaryIO) -> bool:
    """Whether blocks do not follow one another up to the trailer; what comes after it is not looked at."""
    file.seek(0)
    head = file.read(13)
    _skip_colours(file, head[10:11])
    while (kind := file.read(1)) != _GIF_TRAILER:
        if kind == _GIF_IMAGE:
            _skip_colours(file, file.read(9)[8:])
            file.seek(1, os.SEEK_CUR)  # the bits of a code
        elif kind == _GIF_EXTENSION:
            file.seek(1, os.SEEK_CUR)
        else:
            return True
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return False


_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = b",", b"!", b";"


def _skip_colours(file: BinaryIO, flags: bytes) -> None:
    """Over the palette of a GIF or of a picture in it, if it says that there is one."""
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)


def _is_broken_ogg(file: BinaryIO) -> bool:
    """Whether the last page is not a whole one, or not the last of its stream."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _OGG_PAGE))
    tail = file.read()
    place = tail.rfind(b"OggS\0")
    page = tail[place:]
    if place < 0 or len(page) < _OGG_HEAD or not page[5] & _OGG_END:
        return True
    lengths = page[_OGG_HEAD : _OGG_HEAD + page[26]]
    return len(page) < _OGG_HEAD + page[26] + sum(lengths)


_OGG_PAGE = 65307 + 4096  # bytes of the largest page, and of what may have been put behind it
_OGG_HEAD = 27  # bytes of a page's header before its table
_OGG_END = 4


def _is_broken_asf(file: BinaryIO) -> bool:
    """Whether the file ends within the object that holds its packets."""
    size = file.seek(0, os.SEEK_END)
    file.seek(_ASF_GUID)
    (place,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    file.seek(min(place, size))
    kind, said = file.read(_ASF_GUID), file.read(8).ljust(8, b"\0")
    return kind == _ASF_DATA and size < place + struct.unpack("<Q", said)[0]


_ASF_GUID = 16  # bytes, with which every object begins; then comes its length
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def _is_broken_matroska(file: BinaryIO) -> bool:
    """Whether elements, down to the blocks of clusters, do not follow one another up to the end of the last cluster."""
    end = size = file.seek(0, os.SEEK_END)
    place, kind = file.seek(0), None
    while place < min(end, size):
        kind, length = _ebml_number(file, keep=True), _ebml_number(file)
        if kind is None or length is None:
            return place + _EBML_HEAD < size  # else the end cuts off what holds nothing
        place = file.tell()
        unknown = length == _EBML_UNKNOWN
        if kind == _SEGMENT:
            end = size if unknown else place + length
        elif kind != _CLUSTER:
            if unknown:
                return True
            place = file.seek(length, os.SEEK_CUR)
    return place > size and kind is not None and kind < _LEAST_OUTSIDE


_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_LEAST_OUTSIDE = 1 << 24  # ids of elements that lie beside clusters, such as the index, have four bytes
_EBML_HEAD = 12  # bytes of the longest id and length
_EBML_UNKNOWN = -1


def _ebml_number(file: BinaryIO, keep: bool = False) -> int | None:
    """A number whose first byte says how long it is, with (an id) or without that; None where there is none."""
    first = file.read(1)
    length = 9 - first[0].bit_length() if first else 9
    rest = file.read(length - 1)
    if length > (4 if keep else 8) or len(rest) < length - 1:
        return None
    number = int.from_bytes(first + rest, "big")
    if keep:
        return number
    mask = (1 << 7 * length) - 1
    return _EBML_UNKNOWN if number & mask == mask else number & mask


_BROKEN: dict[str, Callable[[BinaryIO], bool]] = {
    "gif": _is_broken_gif,
    "ogg": _is_broken_ogg,
    "asf": _is_broken_asf,
    "matroska": _is_broken_matroska,
}

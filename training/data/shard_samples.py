"""Samples of a tar file by WebDataset's convention: files of one name, apart from their extension, belong together."""

from __future__ import annotations

import json
import lzma
import posixpath
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from fusionframes_core.media.media_files import ANIMATED_SUFFIXES, VIDEO_SUFFIXES, is_hidden

from .caption_files import CAPTION_COLUMNS, column_name
from .items import Item, VideoError, some_of
from .text_files import UnreadableText, decode_text, lone_surrogate, parse_json

BROKEN = (OSError, tarfile.TarError, EOFError, lzma.LZMAError, zlib.error)
"""What reading a damaged tar file raises, packed or not."""
PORTION = 2**20  # bytes
CAPTION_KINDS = ("txt", *CAPTION_COLUMNS)
VIDEO_KINDS = frozenset(suffix[1:] for suffix in VIDEO_SUFFIXES)
PICTURE_KINDS = frozenset(suffix[1:] for suffix in ANIMATED_SUFFIXES)


@dataclass
class Sample:
    """The files of one key: extension → file; `twice`: extensions that came again."""

    key: str
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)
    twice: list[str] = field(default_factory=list)

    @property
    def videos(self) -> list[str]:
        """Extensions of its videos; an animated picture beside another video is its preview."""
        kinds = [kind for kind in self.members if kind in VIDEO_KINDS]
        return [kind for kind in kinds if kind not in PICTURE_KINDS] or kinds

    def problem(self) -> str:
        """Why its files are no sample; "" where they are one."""
        if self.twice:
            return f"the tar file has its .{', .'.join(self.twice)} twice"
        if not self.videos:
            names = [posixpath.basename(member.name) for member in self.members.values()]
            return f"no video in the sample: it has {some_of(names)}"
        return f"several videos in the sample: .{', .'.join(self.videos)}" if len(self.videos) > 1 else ""

    def read(self, archive: tarfile.TarFile) -> Item:
        """The sample as an item; its problem where it has one."""
        key = self.key.encode("utf-8", "backslashreplace").decode()
        try:
            texts, problem = self._captions(archive)
            source = None if self.problem() else BytesIO(_content(archive, self.members[self.videos[0]]))
        except KeyError as error:
            return Item(key, None, problem=f"the tar file does not have what its link means: {error.args[0]}")
        return Item(key, source, texts, self.problem() or problem)

    def _captions(self, archive: tarfile.TarFile) -> tuple[tuple[str, ...], str]:
        try:
            texts = [decode_text(_content(archive, self.members[n])) for n in CAPTION_KINDS if n in self.members]
            described = decode_text(_content(archive, self.members["json"])) if "json" in self.members else "{}"
        except UnreadableText as error:
            return (), f"caption is {error.reason}"
        problem = ""
        try:
            texts += _captions_in(parse_json(described))
        except ValueError as error:
            why = "is no JSON" if isinstance(error, json.JSONDecodeError) else f"is ambiguous: {error}"
            problem = "" if texts else f"its .json {why}"
        half = lone_surrogate("".join(texts))
        return tuple(
            filter(None, map(str.strip, texts))
        ), f"caption: {half} is half of a character" if half else problem


def _captions_in(described: Any) -> Iterator[str]:
    """The texts, or lists of them, that a sample's JSON has under a caption's name."""
    fields = described if isinstance(described, dict) else {}
    for wanted in CAPTION_KINDS:
        for name, value in fields.items():
            if column_name(name) == wanted:
                yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))


def read_samples(path: str) -> Iterator[Item]:
    """The samples of a tar file in the order of their first files; they need not lie together.

    Raises VideoError, after all that is whole, where the file breaks off.
    """
    try:
        with tarfile.open(path) as archive:
            members, torn = _members(archive)
            for sample in group(members):
                yield sample.read(archive)
    except (*BROKEN, ValueError) as error:
        raise VideoError(f"broken: {error}") from error
    if torn:
        raise VideoError(f"broken: {torn}")


def group(members: list[tarfile.TarInfo]) -> list[Sample]:
    """Files by key, the extension being what follows the last dot: `clip.v1.mp4` is `clip.v1`, not `clip`.

    A file that has two names in a folder is in the tar file once, and once as a hard link.
    """
    samples: dict[str, Sample] = defaultdict(lambda: Sample(""))
    for member in members:
        folder, name = posixpath.split(posixpath.normpath(member.name))
        if not (member.isfile() or member.islnk()) or is_hidden(Path(name)) or name.startswith("__"):
            continue
        stem, _, kind = name.rpartition(".")
        key = posixpath.join(folder, stem or name)
        sample = samples[key]
        sample.key = key
        if kind.lower() in sample.members:
            sample.twice.append(kind.lower())
        sample.members[kind.lower()] = member
    return list(samples.values())


def _members(archive: tarfile.TarFile) -> tuple[list[tarfile.TarInfo], str]:
    """The files of a tar file, and what its end is like where it is torn; the last file before a tear is not whole.

    A header that is no header ends a tar file as zeros do, for tarfile; what follows zeros are zeros alone.
    """
    members: list[tarfile.TarInfo] = []
    try:
        while (member := archive.next()) is not None:
            members.append(member)
        rest = _read_on(archive)
    except BROKEN as error:
        return members[:-1], str(error)
    return members, f"what follows {members[-1].name} is no tar file" if rest and members else ""


def _read_on(archive: tarfile.TarFile) -> bool:
    """Whether anything but zeros follows what was read."""
    file = archive.fileobj
    assert file is not None
    file.seek(archive.offset)
    return any(portion.count(0) < len(portion) for portion in iter(lambda: file.read(PORTION), b""))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return file.read() if file else b""

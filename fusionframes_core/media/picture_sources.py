"""Videos that are pictures: folders of numbered ones, and animated WebP, which FFmpeg cannot read."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .media_files import pictures_in
from .orientation import exif_orientation
from .timeline import DEFAULT_RATE, TimedPicture, Timeline, make_timeline
from .video_file import VideoFile
from .video_source import DamagedVideo, VideoFacts, VideoFileError, VideoSource

_DELAY_OF_NONE = 0.1  # seconds that browsers, and FFmpeg of a GIF, show a picture whose delay is 0


class PictureFolder(VideoSource):
    """A folder of pictures of one size, by number, such as `generate --out folder` writes; `rate` is not in them.

    With `allow_damaged` pictures that cannot be read are left out.
    """

    def __init__(self, folder: Path, rate: Fraction = DEFAULT_RATE, allow_damaged: bool = False) -> None:
        self.name, self.rate, self.allow_damaged = str(folder), rate, allow_damaged
        self.files = pictures_in(folder)
        if not self.files:
            raise VideoFileError(f"'{folder}' must hold pictures to be read as a video; it has none", "no pictures")
        count = len(self.files)
        first = next(self._opened(), None)
        if first is None:
            raise DamagedVideo(self.name, 0, count)
        self.facts = VideoFacts(first[1].facts.size, Timeline(rate, False, count, count / float(rate)), count)

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[TimedPicture]:
        """See VideoSource."""
        for index, source in self._opened():
            if source.facts.size != self.facts.size:
                reason = f"changes size at {self.files[index].name}"
                raise VideoFileError(f"'{self.name}' must hold pictures of one size; it {reason}", reason)
            try:
                picture = next(source.frames(size)).picture
            except DamagedVideo:  # a WebP file is only opened until now
                if self.allow_damaged:
                    continue
                raise
            yield TimedPicture(float(index / self.rate), picture)

    def _opened(self) -> Iterator[tuple[int, VideoSource]]:
        """The pictures, each with its place. Raises VideoFileError, that names the file, where one cannot be read."""
        for index, file in enumerate(self.files):
            try:
                source = open_picture(file)
            except VideoFileError:
                if self.allow_damaged:
                    continue
                raise
            yield index, source


def open_picture(file: Path) -> VideoSource:
    """A single picture of any kind."""
    return AnimatedWebP(file, str(file)) if is_webp(file) else VideoFile(file, str(file))


class AnimatedWebP(VideoSource):
    """A WebP file, animated or not, or the bytes of one, through Pillow, which reads nothing of one that is cut off."""

    def __init__(self, source: Path | BytesIO, name: str, allow_damaged: bool = False) -> None:
        self.source, self.name, self.allow_damaged = source, name, allow_damaged
        with self._opened() as image:
            count, size = getattr(image, "n_frames", 1), (image.height, image.width)
            self._upright = exif_orientation(image)
        data = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
        self._delays = _webp_delays(data)[:count] or [0.0]
        times = np.cumsum([0.0, *self._delays[:-1]])
        timeline = make_timeline(list(times), self._delays[-1] or None, ())
        self.facts = VideoFacts(self._upright.swapped(size), timeline, timeline.count)

    def frames(self, size: tuple[int, int] | None = None) -> Iterator[TimedPicture]:
        """See VideoSource."""
        from PIL import Image

        total, read, time = len(self._delays), 0, 0.0
        size = self._upright.swapped(size) if size is not None else None
        with self._opened() as image:
            for index in range(total):
                try:
                    image.seek(index)
                    picture = image.convert("RGB")
                except (OSError, EOFError, ValueError):
                    break
                if size is not None:
                    picture = picture.resize(size[::-1], Image.Resampling.BOX if _smaller(size, picture) else None)
                read += 1
                yield TimedPicture(time, self._upright(np.asarray(picture)))
                time += self._delays[index]
        if not read or (read < total and not self.allow_damaged):
            raise DamagedVideo(self.name, read, total)

    def check(self, most: int | None = None) -> Timeline:
        """See VideoSource; the last picture is shown as long as the file says."""
        times = [frame.time for frame in itertools.islice(self.frames(self.facts.size), most)]
        return make_timeline(times, self._delays[len(times) - 1] or None, ())

    def _opened(self) -> Any:
        try:
            from PIL import Image
        except ImportError as error:
            raise VideoFileError(
                f"'{self.name}' can be read only where Pillow is installed: pip install pillow", "WebP without Pillow"
            ) from error
        if isinstance(self.source, BytesIO):
            self.source.seek(0)
        try:
            return Image.open(self.source, formats=["WEBP"])
        except (OSError, SyntaxError, ValueError) as error:
            raise VideoFileError(
                f"'{self.name}' must be a whole video file; it cannot be read ({error})", f"broken: {error}"
            ) from error


def is_webp(source: Path | BytesIO) -> bool:
    """Whether a file begins as WebP does."""
    if isinstance(source, BytesIO):
        head = source.getvalue()[:12]
    else:
        with open(source, "rb") as file:
            head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def is_animated(path: Path) -> bool:
    """Whether a PNG or WebP file holds more than one picture, by its header; False for any other file."""
    with open(path, "rb") as file:
        head = file.read(21)
        if head[:4] == b"RIFF":
            return head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)
        if head[:8] != b"\x89PNG\r\n\x1a\n":
            return False
        file.seek(8)
        # An animated PNG says so in a chunk before those of its first picture.
        while len(chunk := file.read(8)) == 8 and chunk[4:] != b"IDAT":
            if chunk[4:] == b"acTL":
                return True
            file.seek(int.from_bytes(chunk[:4], "big") + 4, os.SEEK_CUR)
    return False


def _webp_delays(data: bytes) -> list[float]:
    """Seconds that each picture of an animated WebP is shown, from its ANMF chunks; [] for a still one."""
    delays, place = [], 12
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], struct.unpack("<I", data[place + 4 : place + 8])[0]
        if kind == b"ANMF" and place + 24 <= len(data):
            delays.append(int.from_bytes(data[place + 20 : place + 23], "little") / 1000 or _DELAY_OF_NONE)
        place += 8 + length + length % 2
    return delays


def _smaller(size: tuple[int, int], picture: Any) -> bool:
    return size[0] < picture.height

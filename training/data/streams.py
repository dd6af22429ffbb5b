"""Data sets that are no folder of files: WebDataset shards, and Moving Shapes, which are drawn."""

from __future__ import annotations

import glob
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from webdataset.shardlists import expand_urls

from fusionframes_core.files import stand_in_at
from fusionframes_core.media.media_files import is_hidden

from ..moving_shapes.scenes import CLIP_LENGTH, Scene, caption, render, sample_scene
from .items import Buckets, DataError, Footage, Found, Item, Rate, Size, Unit, VideoError
from .shard_samples import BROKEN, read_samples
from .video_frames import decode

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SHAPES_RATE = 24.0  # base frames a second: keyframes are 12 apart and shown at 2 a second


@dataclass(frozen=True)
class WebDataset:
    """Shards (tar files) of videos with a .txt, or a .json that has one or several captions, beside each.

    `shards` is a name with braces, as `shards/{000..127}.tar`, one with stars, or a folder of tar files.
    """

    shards: str
    needs_captions = True

    @property
    def choices(self) -> dict[str, Any]:
        """See DataSet."""
        return {}

    def find(self, chunk: int) -> Found:
        """A chunk is a shard. See DataSet."""
        paths = [Path(name) for pattern in expand_urls(self.shards) for name in _files(pattern)]
        for path in paths:
            try:
                with tarfile.open(path) as archive:
                    archive.next()
            except BROKEN as error:
                raise DataError(f"{path} must be a tar file{_why_not(path, error)}") from error
        names = [path.name for path in paths]
        if len(set(names)) < len(names):
            names = [os.path.relpath(path, os.path.commonpath(paths)) for path in paths]
        return Found([Unit(name, path) for name, path in zip(names, paths, strict=True)])

    def items(self, chunk: object) -> Iterator[Item]:
        """The samples of one shard, in order."""
        return read_samples(str(cast(Unit, chunk).source))

    def footage(self, item: Item, size: Size | Buckets, fps: float | None) -> Footage:
        """The decoded sample."""
        if item.problem:
            raise VideoError(item.problem)
        source = cast(BytesIO, item.source)
        source.seek(0)
        return decode(source, size, fps)


def _why_not(path: Path, error: Exception) -> str:
    what = stand_in_at(path, "tar files") if path.is_file() else None
    if isinstance(error, tarfile.TarError):
        return f"; it is {what or 'none, plain or compressed, that is whole'}"
    return f": {getattr(error, 'strerror', None) or error}"


def _files(pattern: str) -> list[str]:
    """What a name stands for: itself, or the tar files of a folder, or that fit its stars."""
    if os.path.isdir(pattern):
        names = [os.path.join(pattern, name) for name in sorted(os.listdir(pattern)) if not is_hidden(Path(name))]
    elif glob.has_magic(pattern) and not os.path.exists(pattern):
        suffix = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in os.path.splitext(pattern)[1])
        names = sorted(glob.glob(_literal_folder(os.path.splitext(pattern)[0]) + suffix))
    else:
        return [pattern]
    found = [name for name in names if name.lower().endswith(TAR_SUFFIXES)]
    if not found:
        raise DataError(f"{pattern} must be tar files; there is none")
    return found


def _literal_folder(pattern: str) -> str:
    """The pattern, in which brackets and stars of a folder that is called so stand for themselves."""
    folder = os.path.dirname(pattern)
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return glob.escape(folder) + pattern[len(folder) :]


@dataclass(frozen=True)
class MovingShapes:
    """`count` scenes drawn from `seed`, every base frame from the clip's start to its end."""

    count: int
    seed: int = 0
    held_out: bool = False
    needs_captions = True

    @property
    def choices(self) -> dict[str, Any]:
        """See DataSet."""
        return {"seed": self.seed, "held_out": self.held_out}

    def find(self, chunk: int) -> Found:
        """A chunk is a range of scenes. See DataSet."""
        ranges = [(start, min(start + chunk, self.count)) for start in range(0, self.count, chunk)]
        return Found([Unit(f"scenes from {start}", (start, end)) for start, end in ranges])

    def items(self, chunk: object) -> Iterator[Item]:
        """Scene i is drawn from (seed, i), so that it does not depend on the chunks."""
        for index in range(*cast("tuple[int, int]", cast(Unit, chunk).source)):
            rng = np.random.default_rng((self.seed, index))
            scene = sample_scene(rng, self.held_out)
            yield Item(f"scene_{index:06d}", scene, (caption(scene, rng),))

    def footage(self, item: Item, size: Size | Buckets, fps: float | None) -> Footage:
        """Drawn square, then brought to `size`."""
        size = size.nearest(1, 1) if isinstance(size, Buckets) else size
        rate = min(fps or SHAPES_RATE, SHAPES_RATE)
        times = np.arange(0, CLIP_LENGTH + 1e-6, SHAPES_RATE / rate)
        frames = render(cast(Scene, item.source), times, max(size))
        pictures = (cv2.resize(frame, size[::-1]) if frame.shape[:2] != size else frame for frame in frames)
        return Footage(pictures, rate, Rate(SHAPES_RATE))

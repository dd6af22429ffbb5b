"""Data sets that are no folder of files: WebDataset shards, and Moving Shapes, which are drawn."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

import cv2
import numpy as np
import webdataset

from ..moving_shapes.scenes import CLIP_LENGTH, Scene, caption, render, sample_scene
from .items import VIDEO_SUFFIXES, DataError, Found, Item, Picture, VideoError
from .video_frames import decode

CAPTION_FIELDS = ("txt", "caption", "text")
SHAPES_RATE = 24.0  # base frames a second: keyframes are 12 apart and shown at 2 a second


@dataclass(frozen=True)
class WebDataset:
    """Shards (tar files, `shards/{000..127}.tar`) of videos with a .txt, or a .json that has a caption, beside each."""

    shards: str
    needs_captions = True

    def find(self, chunk: int) -> Found:
        """A chunk is a shard. See DataSet."""
        names = webdataset.shardlists.expand_urls(self.shards)
        for name in names:
            try:
                with tarfile.open(name) as archive:
                    archive.next()
            except (OSError, tarfile.TarError) as error:
                raise DataError(f"{name} must be a tar file: {error}") from error
        return Found([str(name) for name in names])

    def items(self, chunk: object) -> Iterator[Item]:
        """The samples of one shard, read in order."""
        kinds = {suffix[1:] for suffix in VIDEO_SUFFIXES}
        samples = iter(webdataset.WebDataset(str(chunk), shardshuffle=False, empty_check=False))
        while True:
            try:
                sample = next(samples, None)
            except (OSError, tarfile.TarError, ValueError, EOFError) as error:
                raise VideoError(f"broken: {error.args[0] if error.args else error}") from error
            if sample is None:
                return
            kind = next((name for name in sample if name in kinds), None)
            content = BytesIO(sample[kind]) if kind else None
            yield Item(sample["__key__"], content, _sample_captions(sample))

    def pictures(self, item: Item, size: tuple[int, int], fps: float | None) -> tuple[Iterator[Picture], float]:
        """The decoded sample."""
        return decode(cast(BytesIO, item.source) or BytesIO(), size, fps)


def _sample_captions(sample: dict[str, Any]) -> tuple[str, ...]:
    texts = [sample[name].decode("utf-8", "replace") for name in CAPTION_FIELDS if name in sample]
    if "json" in sample:
        try:
            content = json.loads(sample["json"])
        except ValueError:
            content = {}
        found = [content.get(name) for name in CAPTION_FIELDS] if isinstance(content, dict) else []
        texts += [text for text in found if isinstance(text, str)]
    return tuple(text.strip() for text in texts if text.strip())


@dataclass(frozen=True)
class MovingShapes:
    """`count` scenes drawn from `seed`, every base frame from the clip's start to its end."""

    count: int
    seed: int = 0
    held_out: bool = False
    needs_captions = True

    def find(self, chunk: int) -> Found:
        """A chunk is a range of scenes. See DataSet."""
        starts = range(0, self.count, chunk)
        return Found([(start, min(start + chunk, self.count)) for start in starts])

    def items(self, chunk: object) -> Iterator[Item]:
        """Scene i is drawn from (seed, i), so that it does not depend on the chunks."""
        for index in range(*cast("tuple[int, int]", chunk)):
            rng = np.random.default_rng((self.seed, index))
            scene = sample_scene(rng, self.held_out)
            yield Item(f"scene_{index:06d}", scene, (caption(scene, rng),))

    def pictures(self, item: Item, size: tuple[int, int], fps: float | None) -> tuple[Iterator[Picture], float]:
        """Drawn square, then brought to `size`."""
        rate = min(fps or SHAPES_RATE, SHAPES_RATE)
        times = np.arange(0, CLIP_LENGTH + 1e-6, SHAPES_RATE / rate)
        frames = render(cast(Scene, item.source), times, max(size))
        return (cv2.resize(frame, size[::-1]) if frame.shape[:2] != size else frame for frame in frames), rate

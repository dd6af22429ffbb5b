"""What a chunk file holds: which videos, as they were when it was made, and which clips of each.

The metadata's `summary` is JSON: `clips`, `skipped` (video, why), `videos` (how many were used), and, since folders can
be added to, `items` (one Entry a video) and `unit` (name and fingerprint of the tar file or range that it was made of).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .fingerprints import is_same
from .items import NO_CAPTION, DataError, Item, Unit
from .recipe import TOO_SLOW, Recipe

CHUNK_NAME = "chunk_{:05d}.safetensors"


@dataclass(frozen=True)
class Entry:
    """A video of a chunk: captions and fingerprint (None: not known, trusted), `why` it was skipped, its own rate."""

    key: str
    captions: tuple[str, ...] | None = None
    source: dict[str, Any] | None = None
    why: str = ""
    rate: float | None = None
    said: dict[str, list[str]] = field(default_factory=dict)  # caption → what the text encoder warned of
    varies: bool = False  # its own rate, of which `rate` is the average

    def has_captions_of(self, item: Item) -> bool:
        """Whether the captions are still what they were."""
        return self.captions is None or tuple(self.captions) == item.captions

    def keeps_its_rate(self, recipe: Recipe) -> bool:
        """Whether it is still right that it was used, or skipped as too slow."""
        return self.rate is None or recipe.is_too_slow(self.rate) == self.why.startswith(TOO_SLOW)

    def has_frames_of(self, item: Item, recipe: Recipe) -> bool:
        """Whether the item's frames need not be encoded again."""
        return not self.why and self.keeps_its_rate(recipe) and is_same(item.source, self.source)

    def settles(self, item: Item, problem: str, recipe: Recipe) -> bool:
        """Whether nothing is left to do for an item; `problem` is why it cannot be used, known before decoding."""
        if problem:
            return self.why == problem
        if not self.has_captions_of(item) or not self.keeps_its_rate(recipe):
            return False
        return is_same(item.source, self.source)


@dataclass(frozen=True)
class ChunkIndex:
    """One file's summary. `unit` is None where the chunk is a list of items, or older than the index."""

    path: Path
    summary: dict[str, Any]

    @property
    def number(self) -> int:
        """The number in its name."""
        return int(re.findall(r"\d+", self.path.stem)[-1])

    @property
    def unit(self) -> dict[str, Any] | None:
        """`name` and `source` of the unit that it was made of."""
        return self.summary.get("unit")

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Key → entry, in order; of older files what their clips and skipped videos say."""
        if "items" in self.summary:
            stored = [Entry(**item) for item in self.summary["items"]]
        else:
            clips = {clip["video"]: clip for clip in self.summary["clips"]}
            stored = [Entry(key, _captions(clip), rate=clip.get("fps")) for key, clip in clips.items()]
            stored += [Entry(key, () if why == NO_CAPTION else None, why=why) for key, why in self.summary["skipped"]]
        return {entry.key: entry for entry in stored}

    def clips_of(self, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and description of a video's clips."""
        return ((i, clip) for i, clip in enumerate(self.summary["clips"]) if clip["video"] == key)

    def is_made_of(self, unit: Unit, recipe: Recipe) -> bool:
        """Whether nothing is left to do for a unit."""
        same = self.unit is None or is_same(unit.source, self.unit["source"])
        return same and all(entry.keeps_its_rate(recipe) for entry in self.entries.values())


def _captions(clip: dict[str, Any]) -> tuple[str, ...]:
    """Those of an older clip; "" stood for none."""
    return tuple(text for text in clip["captions"] if text)


def chunk_files(folder: Path) -> list[Path]:
    """The chunks in a folder, by number."""
    return sorted(folder.glob("chunk_*.safetensors"))


def read_indexes(folder: Path) -> list[ChunkIndex]:
    """Of every chunk in a folder. Raises DataError when a file is not whole."""
    return [ChunkIndex(path, read_summary(path)) for path in chunk_files(folder)]


def read_summary(path: Path) -> dict[str, Any]:
    """Clips and skipped videos of one chunk. Raises DataError when the file is not whole."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return json.loads(file.metadata()["summary"])
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no whole chunk: remove it and prepare again") from error

"""Encoding a data set once: chunks of videos become safetensors files, each whole or absent, so that a run can resume.

`chunk_00000.safetensors` holds for clip i `i.latents` (T, 4, h, w) float16 and/or `i.pixels` (T, H, W, 3) uint8, and
for its caption j `i.j.text` (N, D) float16; its metadata is that of a ChunkIndex.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.media.frames import to_pixels
from fusionframes_core.pipeline import FusionFramesPipeline

from .chunk_index import ChunkIndex, Entry, read_summary
from .fingerprints import fingerprint
from .items import DataSet, Footage, Item, Unit, VideoError, why_not
from .planning import refuse_to_lose
from .recipe import KEEP, Recipe
from .shots import cut


class Encoder:
    """The frozen networks of one process."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.pipeline = FusionFramesPipeline.from_pretrained(recipe.model, device=recipe.device)
        self.texts: dict[str, Tensor] = {}
        self.said: dict[str, list[str]] = {}  # caption → what the text encoder warned of

    def text(self, caption: str) -> Tensor:
        """(N, D) float16; "" is the null embedding. Raises VideoError for text that the tokenizer refuses."""
        if caption not in self.texts:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                try:
                    encoded = self.pipeline.encode_text([caption])
                except ValueError as error:
                    raise VideoError(f"caption: {error}") from error
            self.texts[caption] = encoded.context[0, encoded.mask[0]].half().cpu().contiguous()
            self.said[caption] = [str(warning.message) for warning in caught]
        return self.texts[caption]

    def latents(self, shot: NDArray[np.uint8]) -> Tensor:
        """Frames (T, H, W, 3) → (T, 4, h, w) float16."""
        parts = [
            self.pipeline.encode(to_pixels(shot[start : start + self.recipe.batch])[None])[0].half().cpu()
            for start in range(0, len(shot), self.recipe.batch)
        ]
        return torch.cat(parts, dim=1).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class Clip:
    """One shot of a video: its frames by kind, the number of the first, and frames a second."""

    frames: dict[str, Tensor]
    first: int
    rate: float


@dataclass(frozen=True)
class Before:
    """The chunk that was at the same place, open for reading."""

    index: ChunkIndex
    file: Any

    def clips_of(self, key: str) -> list[Clip]:
        """A video's clips."""
        return [
            Clip({kind: self.file.get_tensor(f"{i}.{kind}") for kind in KEEP if self._has(i, kind)}, *_place(clip))
            for i, clip in self.index.clips_of(key)
        ]

    def texts_of(self, key: str) -> dict[str, Tensor]:
        """Caption → its text."""
        return {
            caption: self.file.get_tensor(f"{i}.{j}.text")
            for i, clip in self.index.clips_of(key)
            for j, caption in enumerate(clip["captions"])
        }

    def _has(self, number: int, kind: str) -> bool:
        return f"{number}.{kind}" in self.file.keys()  # noqa: SIM118 -- no dict


def _place(clip: dict[str, Any]) -> tuple[int, float]:
    return clip["first"], clip["fps"]


@dataclass
class Chunk:
    """What one file will hold."""

    encoder: Encoder
    tensors: dict[str, Tensor] = field(default_factory=dict)
    clips: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def put(self, data: DataSet, item: Item, before: Before | None) -> None:
        """Take over what `before` has of one video and encode the rest; or note why the video is skipped."""
        old = before.index.entries.get(item.key) if before else None
        entry = Entry(item.key, item.captions, fingerprint(item.source))
        try:
            if why_not(data, item):
                raise VideoError(why_not(data, item))
            if old and old.why and old.settles(item, "", self.encoder.recipe):
                entry = replace(entry, rate=old.rate, varies=old.varies)
                raise VideoError(old.why)
            if before and old and old.has_frames_of(item, self.encoder.recipe):
                entry, clips = replace(entry, rate=old.rate, varies=old.varies), before.clips_of(item.key)
            else:
                footage = data.footage(item, self.encoder.recipe.shape, self.encoder.recipe.fps)
                entry = replace(entry, rate=footage.own.fps, varies=footage.own.varies)
                self.encoder.recipe.check_rate(footage.own)
                clips = encode_clips(footage, self.encoder)
            known = before.texts_of(item.key) if before and old else {}
            texts = {text: known[text] if text in known else self.encoder.text(text) for text in item.captions or ("",)}
        except VideoError as error:
            self.skipped.append((item.key, str(error)))
            self.entries.append(replace(entry, why=str(error)))
            return
        self._keep(item, clips, texts)
        said = (old.said if old else {}) | self.encoder.said
        self.entries.append(replace(entry, said={text: said[text] for text in texts if said.get(text)}))

    def _keep(self, item: Item, clips: list[Clip], texts: dict[str, Tensor]) -> None:
        captions = item.captions or ("",)
        for clip in clips:
            number, frames = len(self.clips), len(next(iter(clip.frames.values())))
            self.tensors |= {f"{number}.{name}": tensor for name, tensor in clip.frames.items()}
            self.tensors |= {f"{number}.{j}.text": texts[caption].clone() for j, caption in enumerate(captions)}
            place: dict[str, Any] = {"first": clip.first, "frames": frames, "fps": clip.rate}
            if self.encoder.recipe.buckets:
                place["size"] = _size_of(clip)
            self.clips.append({"video": item.key, "captions": captions, **place})

    def summary(self) -> dict[str, Any]:
        """What a ChunkIndex reads, but for the unit."""
        return {
            "clips": self.clips,
            "skipped": self.skipped,
            "videos": sum(not entry.why for entry in self.entries),
            "items": [asdict(entry) for entry in self.entries],
        }


def _size_of(clip: Clip) -> list[int]:
    """Height and width of what is kept of a clip: of its latents, or of its pixels alone."""
    latents = clip.frames.get("latents")
    shape = clip.frames["pixels"].shape[1:3] if latents is None else latents.shape[2:]
    return list(shape)


def encode_clips(footage: Footage, encoder: Encoder) -> list[Clip]:
    """Decode, split and encode one video. Raises VideoError."""
    recipe = encoder.recipe
    makers = {"latents": encoder.latents, "pixels": torch.from_numpy}
    clips, first, longest = [], 0, 0
    for shot in cut(footage.pictures, recipe.max_frames, recipe.threshold):
        if len(shot) >= recipe.min_frames:
            clips.append(Clip({name: makers[name](shot) for name in recipe.keep}, first, footage.fps))
        first, longest = first + len(shot), max(longest, len(shot))
    if not longest:
        raise VideoError("no frames")
    if not clips:
        raise VideoError(f"too short: its longest shot has {longest} frames of {recipe.min_frames}")
    return clips


def prepare_chunk(data: DataSet, chunk: object, encoder: Encoder, path: Path, drop_removed: bool = False) -> None:
    """Prepare the videos of one chunk and write `path`; a video that cannot be used is noted there and skipped.

    What `path` holds of them already is taken over. A chunk that is None leaves nothing. Raises DataError, without
    `drop_removed`, where a Unit, whose videos are known only now, no longer has one of which there are clips.
    """
    if chunk is None:
        path.unlink()
        return
    result, unit = Chunk(encoder), unit_of(chunk)
    # A file cannot be replaced everywhere while it is mapped: it is closed, and no tensor shares its memory.
    with safe_open(str(path), framework="pt") if path.exists() else nullcontext() as file:
        before = Before(ChunkIndex(path, read_summary(path)), file) if file else None
        for item in _items(data, chunk, result):
            result.put(data, item, before)
        if before and unit and not drop_removed:
            names = {entry.key for entry in result.entries}
            held = [key for key, entry in before.index.entries.items() if not entry.why]
            refuse_to_lose([key for key in held if key not in names], path.parent)
        result.tensors = {name: tensor.clone() for name, tensor in result.tensors.items()} if before else result.tensors
    metadata = {"summary": json.dumps(result.summary() | {"unit": unit})}
    save_weights(result.tensors, path, dtype=None, metadata=metadata)


def unit_of(chunk: object) -> dict[str, Any] | None:
    """The name and fingerprint of a chunk that is a Unit."""
    return {"name": chunk.name, "source": fingerprint(chunk.source)} if isinstance(chunk, Unit) else None


def _items(data: DataSet, chunk: object, result: Chunk) -> Iterator[Item]:
    """The chunk's items; where a shard breaks off, what came before it counts."""
    source = data.items(chunk)
    while True:
        try:
            item = next(source, None)
        except VideoError as error:
            result.skipped.append((str(chunk), str(error)))
            return
        if item is None:
            return
        yield item

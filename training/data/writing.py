"""Encoding a data set once: chunks of videos become safetensors files, each whole or absent, so that a run can resume.

`chunk_00000.safetensors` holds for clip i `i.latents` (T, 4, h, w) float16 and/or `i.pixels` (T, H, W, 3) uint8, and
for its caption j `i.j.text` (N, D) float16; its metadata the captions, rates, and what was skipped and why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.media.frames import to_pixels
from fusionframes_core.pipeline import FusionFramesPipeline

from .items import DataSet, Item, VideoError
from .shots import cut

KEEP = ("latents", "pixels")
CHUNK_NAME = "chunk_{:05d}.safetensors"


@dataclass(frozen=True)
class Recipe:
    """What is made of a video. Frames count after resampling to `fps` (None: as they are)."""

    size: tuple[int, int]  # height, width
    keep: tuple[str, ...] = ("latents",)
    fps: float | None = None
    min_frames: int = 33
    max_frames: int = 720
    threshold: float = 27.0
    model: str = "tiny"
    device: str = "cpu"
    batch: int = 16  # frames encoded at once

    def __post_init__(self) -> None:
        if not self.keep or not set(self.keep) <= set(KEEP):
            raise ValueError(f"keep must name one or both of {', '.join(KEEP)}; got {self.keep!r}")
        if not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"min_frames must be from 1 to max_frames; got {self.min_frames} and {self.max_frames}")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps must be above 0; got {self.fps}")


class Encoder:
    """The frozen networks of one process."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.pipeline = FusionFramesPipeline.from_pretrained(recipe.model, device=recipe.device)
        self.texts: dict[str, Tensor] = {}

    def text(self, caption: str) -> Tensor:
        """(N, D) float16; "" is the null embedding."""
        if caption not in self.texts:
            encoded = self.pipeline.encode_text([caption])
            self.texts[caption] = encoded.context[0, encoded.mask[0]].half().cpu().contiguous()
        return self.texts[caption]

    def latents(self, shot: NDArray[np.uint8]) -> Tensor:
        """Frames (T, H, W, 3) → (T, 4, h, w) float16."""
        parts = [
            self.pipeline.encode(to_pixels(shot[start : start + self.recipe.batch])[None])[0].half().cpu()
            for start in range(0, len(shot), self.recipe.batch)
        ]
        return torch.cat(parts, dim=1).transpose(0, 1).contiguous()


@dataclass
class Chunk:
    """What one file will hold."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    clips: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    videos: int = 0

    def add(self, encoder: Encoder, data: DataSet, item: Item) -> None:
        """Decode, split and encode one video. Raises VideoError and leaves nothing of it."""
        recipe = encoder.recipe
        if data.needs_captions and not item.captions:
            raise VideoError("no caption")
        pictures, rate = data.pictures(item, recipe.size, recipe.fps)
        shots, first, lengths = [], 0, []
        for shot in cut(pictures, recipe.max_frames, recipe.threshold):
            lengths.append(len(shot))
            if len(shot) >= recipe.min_frames:
                shots.append(self._encode(encoder, shot) | {"first": torch.tensor(first)})
            first += len(shot)
        if not lengths:
            raise VideoError("no frames")
        if not shots:
            raise VideoError(f"too short: its longest shot has {max(lengths)} frames of {recipe.min_frames}")
        for tensors in shots:
            self._keep(encoder, item, tensors, rate)
        self.videos += 1

    def _encode(self, encoder: Encoder, shot: NDArray[np.uint8]) -> dict[str, Tensor]:
        makers = {"latents": encoder.latents, "pixels": torch.from_numpy}
        return {name: makers[name](shot) for name in encoder.recipe.keep}

    def _keep(self, encoder: Encoder, item: Item, shot: dict[str, Tensor], rate: float) -> None:
        number, captions = len(self.clips), item.captions or ("",)
        first = int(shot.pop("first"))
        frames = len(next(iter(shot.values())))
        self.tensors |= {f"{number}.{name}": tensor for name, tensor in shot.items()}
        self.tensors |= {f"{number}.{j}.text": encoder.text(caption).clone() for j, caption in enumerate(captions)}
        self.clips.append({"video": item.key, "captions": captions, "first": first, "frames": frames, "fps": rate})


def prepare_chunk(data: DataSet, chunk: object, encoder: Encoder, path: Path) -> None:
    """Prepare the videos of one chunk and write `path`; a video that cannot be used is noted there and skipped."""
    result = Chunk()
    for item in _items(data, chunk, result):
        try:
            result.add(encoder, data, item)
        except VideoError as error:
            result.skipped.append((item.key, str(error)))
    summary = {"clips": result.clips, "skipped": result.skipped, "videos": result.videos}
    save_weights(result.tensors, path, dtype=None, metadata={"summary": json.dumps(summary)})


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

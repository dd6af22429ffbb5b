"""Where batches come from: latents or pixels of Moving Shapes, or of folders that `training.prepare` wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fusionframes_core.models.text_encoder import TextContext, TextEncoder

from ..moving_shapes.clips import Clips, load_clips
from ..moving_shapes.scene_pixels import random_clips, random_frames
from ..moving_shapes.scenes import Scene, caption
from .prepared_clips import KEYFRAME_STEP, ClipBatch, PreparedClips, context_of, with_nulls

TEXT_DROP = 0.1  # share of the captions that are empty, for guidance

DrawPixels = Callable[[np.random.Generator, int], Tensor]
"""(rng, count) → pixels (count, 3, T, H, W) in [-1, 1]."""


@torch.no_grad()
def encode_captions(encoder: TextEncoder, scenes: list[Scene], rng: np.random.Generator) -> TextContext:
    """Contexts of freshly worded captions; a share TEXT_DROP of them is empty, which means the null embedding."""
    return encoder.encode(["" if rng.random() < TEXT_DROP else caption(scene, rng) for scene in scenes])


@dataclass(frozen=True)
class Drawn:
    """`latents` (B, 4, T, h, w); `text(rng)` their captions' contexts; `skip_frames` (B,) between neighbours."""

    latents: Tensor
    text: Callable[[np.random.Generator], TextContext]
    skip_frames: Tensor


class Source(Protocol):
    """Random clips as latents (count, 4, num_frames, h, w); every draw depends on `rng` alone."""

    def keyframes(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Frames as far apart as keyframes are."""
        ...

    def windows(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Frames s apart, keyframes and what lies between them."""
        ...

    def images(self, rng: np.random.Generator, count: int, num_frames: int = 1) -> Drawn:
        """Single frames."""
        ...

    def null_context(self) -> TextContext:
        """The null embedding as a batch of one."""
        ...


class ShapesSource:
    """Clips of Moving Shapes that training.latents encoded, captioned anew each time."""

    def __init__(self, clips: Clips, encoder: TextEncoder) -> None:
        self.clips, self.encoder = clips, encoder

    def keyframes(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Whole clips. Raises ValueError for clips of another length."""
        if self.clips.latents.shape[2] != num_frames:
            raise ValueError(
                f"clips must have {num_frames} frames, as `training.latents --kind keyframes` makes them; "
                f"got {self.clips.latents.shape[2]}"
            )
        return self._drawn(rng.integers(len(self.clips.scenes), size=count), 0, self.clips.latents.shape[2])

    def windows(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Parts of `num_frames` frames that start at a keyframe. Raises ValueError for shorter clips."""
        if self.clips.latents.shape[2] < num_frames:
            raise ValueError(
                f"clips must have at least {num_frames} frames, as `training.latents --kind windows` makes them; "
                f"got {self.clips.latents.shape[2]}"
            )
        index = rng.integers(len(self.clips.scenes), size=count)
        start = 4 * int(rng.integers(0, (self.clips.latents.shape[2] - num_frames) // 4 + 1))
        return self._drawn(index, start, start + num_frames)

    def images(self, rng: np.random.Generator, count: int, num_frames: int = 1) -> Drawn:
        """Single frames."""
        index = rng.integers(len(self.clips.scenes), size=count)
        frame = rng.integers(self.clips.latents.shape[2], size=count)
        latents = self.clips.latents[index, :, frame].float()[:, :, None]
        text = partial(encode_captions, self.encoder, [self.clips.scenes[i] for i in index])
        return Drawn(latents, text, self.clips.skip_frames[index])

    def null_context(self) -> TextContext:
        """The null embedding as a batch of one."""
        return self.encoder.null_context(1)

    def _drawn(self, index: np.ndarray, first: int, end: int) -> Drawn:
        scenes = [self.clips.scenes[i] for i in index]
        latents = self.clips.latents[index, :, first:end].float()
        return Drawn(latents, partial(encode_captions, self.encoder, scenes), self.clips.skip_frames[index])


class PreparedSource:
    """Folders that training.prepare wrote: videos of any kind, latents and text encoded once."""

    def __init__(self, folders: list[Path], step: int = KEYFRAME_STEP) -> None:
        """`step`: how many frames keyframes are apart."""
        self.clips, self.step = PreparedClips(folders), step

    def keyframes(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Frames `step` apart (section 5: 12) from a random start."""
        return self._drawn(self.clips.keyframes(rng, count, num_frames, self.step))

    def windows(self, rng: np.random.Generator, count: int, num_frames: int) -> Drawn:
        """Frames s apart, s ∈ {1, ..., 12}."""
        return self._drawn(self.clips.windows(rng, count, num_frames))

    def images(self, rng: np.random.Generator, count: int, num_frames: int = 1) -> Drawn:
        """Single frames."""
        return self._drawn(self.clips.keyframes(rng, count, 1))

    def _drawn(self, batch: ClipBatch) -> Drawn:
        def text(rng: np.random.Generator) -> TextContext:
            return with_nulls(batch, self.clips.null, rng.random(len(batch.captions)) < TEXT_DROP)

        return Drawn(batch.frames, text, batch.skip_frames)

    def null_context(self) -> TextContext:
        """The null embedding as a batch of one."""
        return context_of(self.clips.null)


def open_source(
    data: list[Path] | None,
    clips: list[Path] | None,
    encoder: TextEncoder | None,
    draws: str,
    num_frames: int = 1,
) -> Source:
    """The folders of `data`, or else `clips`; what a stage `draws` (a method of Source) is tried once.

    Raises ValueError unless exactly one is named, with its text encoder, and what is drawn can be.
    """
    if bool(data) == bool(clips):
        raise ValueError(f"either data or clips must name what to train on; got data {data} and clips {clips}")
    source = PreparedSource(data) if data else _shapes(clips or [], encoder)
    getattr(source, draws)(np.random.default_rng(0), 1, num_frames)
    return source


def open_held_out(
    data: list[Path] | None,
    clips: list[Path] | None,
    encoder: TextEncoder | None,
    draws: str,
    num_frames: int = 1,
) -> Source | None:
    """What the averaged weights are measured on, as for `open_source`; None where neither is named."""
    return open_source(data, clips, encoder, draws, num_frames) if data or clips else None


def _shapes(clips: list[Path], encoder: TextEncoder | None) -> Source:
    if encoder is None:
        raise ValueError("clips need text_encoder, the folder with text_encoder.safetensors; got none")
    return ShapesSource(load_clips(clips), encoder)


def open_frames(data: list[Path] | None, size: int) -> DrawPixels:
    """Single frames (T = 1) of prepared folders, or else of Moving Shapes."""
    if not data:
        return lambda rng, count: random_frames(rng, count, size)
    return _prepared_pixels(data, 1)


def open_sequences(data: list[Path] | None, frames: int, size: int) -> DrawPixels:
    """Sequences of `frames` neighbouring frames of prepared folders, or else of Moving Shapes."""
    if not data:
        return lambda rng, count: random_clips(rng, count, frames, size)
    return _prepared_pixels(data, frames)


def _prepared_pixels(data: list[Path], frames: int) -> DrawPixels:
    clips = PreparedClips(data)
    return lambda rng, count: clips.sequences(rng, count, frames).frames

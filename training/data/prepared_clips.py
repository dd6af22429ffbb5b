"""Reading what `training.prepare` wrote: random clips for every stage, straight from the mapped files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from fusionframes_core.models.text_encoder import TextContext

from .chunk_index import chunk_files, read_summary
from .clip_spacing import Spacing
from .data_parts import part_folders
from .data_report import AGAIN, NULL, REPORT, stored_null, stored_report
from .items import DataError
from .recipe import KEEP
from .resuming import read_settings
from .stored_texts import Padding, StoredText, padding_of

KEYFRAMES, KEYFRAME_STEP = 16, 12  # section 5: 16 frames, 12 apart, from a random start
WINDOW, MAX_SKIP = 33, 12  # section 5: 9 → 33 frames, s ∈ {1, ..., 12}
SEQUENCE = 8  # section 5: the decoder's sequences

T = TypeVar("T")


@dataclass(frozen=True)
class ClipBatch:
    """`frames`: latents (B, 4, T, h, w) or pixels (B, 3, T, H, W) in [−1, 1], float32; `skip_frames` (B,)."""

    frames: Tensor
    text: TextContext
    captions: list[str]
    skip_frames: Tensor


class PreparedClips:
    """Clips of one or more folders. Every draw depends on `rng` alone; may be sent to other processes.

    Raises DataError unless every folder is finished, and what they hold fits into one batch.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.clips: list[tuple[Path, int, dict[str, Any]]] = []
        shapes: dict[Path, dict[str, str]] = {}
        for folder in folders:
            if not (folder / REPORT).is_file():
                raise DataError(f"{folder} holds no finished data set: prepare it with `python -m training.prepare`")
            before = len(self.clips)
            for place in (folder, *part_folders(folder).values()):
                for path in chunk_files(place):
                    self.clips += [(path, i, clip) for i, clip in enumerate(read_summary(path)["clips"])]
            if len(self.clips) > before:
                shapes[folder] = _shapes(*self.clips[before])
        if not self.clips:
            raise DataError(f"{', '.join(map(str, folders))}: every video was skipped, see {REPORT}")
        nulls = {folder: _null_of(folder) for folder in shapes}
        self.null = next(iter(nulls.values()))
        _check_alike({folder: found | {"texts": nulls[folder].shape} for folder, found in shapes.items()})
        self.folders = folders
        self._lacking = {kind: [folder for folder, found in shapes.items() if kind not in found] for kind in KEEP}
        self.lengths = np.array([clip["frames"] for *_, clip in self.clips])
        self.sizes = [tuple(clip.get("size", ())) for *_, clip in self.clips]  # () where a folder has one size
        self._bucket = np.array([sorted(set(self.sizes)).index(size) for size in self.sizes])
        self.spacing = Spacing.of([clip["fps"] for *_, clip in self.clips])
        self._open: dict[Path, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def latent_sizes(self) -> list[tuple[int, ...]]:
        """Channels, height and width of the latents: one for each size that there is. Raises DataError without any."""
        self._check_kind("latents")
        one_of_each = dict(zip(self.sizes, self.clips, strict=True)).values()
        slices = (self._file(path).get_slice(f"{number}.latents") for path, number, _ in one_of_each)
        return sorted({tuple(stored.get_shape()[1:]) for stored in slices})

    def autoencoders(self) -> dict[Path, dict[str, str] | None]:
        """Of each folder the `file` and `fingerprint` of what encoded it; None where an older version did."""
        return {folder: stored_report(folder).get("movq") for folder in self.folders}

    def text_of(self, caption: str) -> StoredText | None:
        """The stored text of a caption; None where no clip has it."""
        for path, number, clip in self.clips:
            if caption in clip["captions"]:
                tokens = self._file(path).get_tensor(f"{number}.{clip['captions'].index(caption)}.text")
                return StoredText(tokens.float(), self.null.padding)
        return None

    def keyframes(
        self, rng: np.random.Generator, count: int, num_frames: int = KEYFRAMES, step: int = KEYFRAME_STEP
    ) -> ClipBatch:
        """`num_frames` latents `step` frames apart from a random start. See Spacing for clips of several rates."""
        return self._draw(rng, "latents", num_frames, np.full(count, step), self.spacing)

    def windows(
        self, rng: np.random.Generator, count: int, num_frames: int = WINDOW, max_skip: int = MAX_SKIP
    ) -> ClipBatch:
        """`num_frames` latents s frames apart, s ∈ {1, ..., max_skip}, as far as there are clips long enough."""
        steps = self.spacing.possible_steps(self.lengths, num_frames, max_skip)
        if not len(steps):
            self._long_enough(num_frames, 1, self.spacing)
        chosen = steps[rng.integers(len(steps), size=count)]
        return self._draw(rng, "latents", num_frames, chosen, self.spacing)

    def sequences(self, rng: np.random.Generator, count: int, num_frames: int = SEQUENCE, step: int = 1) -> ClipBatch:
        """`num_frames` frames as pixels, for the decoder: neighbours in their video, whatever its rate."""
        return self._draw(rng, "pixels", num_frames, np.full(count, step), Spacing.by_number(len(self.clips)))

    def _draw(self, rng: np.random.Generator, kind: str, frames: int, steps: np.ndarray, spacing: Spacing) -> ClipBatch:
        self._check_kind(kind)
        videos, captions, texts = [], [], []
        steps, bucket = steps.copy(), None
        for place, step in enumerate(map(int, steps)):
            fitting = self._alike(self._long_enough(frames, step, spacing), bucket)
            if not len(fitting):  # no clip of the batch's size is long enough for this step, but for the first one's
                steps[place] = step = int(steps[0])
                fitting = self._alike(self._long_enough(frames, step, spacing), bucket)
            index = rng.choice(fitting)
            bucket = self._bucket[index]
            path, number, clip = self.clips[index]
            places = spacing.places(index, frames, step)
            start = int(rng.integers(clip["frames"] - places[-1]))
            chosen = int(rng.integers(len(clip["captions"])))
            file = self._file(path)
            videos.append(_frames(file, f"{number}.{kind}", start + places))
            texts.append(file.get_tensor(f"{number}.{chosen}.text").float())
            captions.append(clip["captions"][chosen])
        text = self.null.padding.join(texts)
        return ClipBatch(torch.stack(videos), text, captions, torch.from_numpy(steps.astype(np.int64)))

    def _check_kind(self, kind: str) -> None:
        if self._lacking[kind]:
            raise DataError(f"{self._lacking[kind][0]} holds no {kind}: prepare it with --keep {kind}")

    def _alike(self, clips: np.ndarray, bucket: int | None) -> np.ndarray:
        """Those of the clips that are of a batch's size; all of them while it is empty (None)."""
        return clips if bucket is None else clips[self._bucket[clips] == bucket]

    def _long_enough(self, frames: int, step: int, spacing: Spacing) -> np.ndarray:
        """The clips that hold `frames` frames `step` apart. Raises DataError when there is none."""
        chosen = np.flatnonzero(spacing.fits(self.lengths, frames, step))
        if not len(chosen):
            span = (frames - 1) * step + 1
            raise DataError(f"clips must have at least {span} frames{spacing}; the longest has {self.lengths.max()}")
        return chosen

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = safe_open(str(path), framework="pt")
        return self._open[path]


def context_of(text: StoredText) -> TextContext:
    """A stored text as a batch of one."""
    return text.padding.join([text.tokens])


def with_nulls(batch: ClipBatch, null: StoredText, drop: np.ndarray) -> TextContext:
    """The batch's texts, the null embedding where `drop` (B,) is True: what empty captions would give there."""
    rows = zip(drop, batch.text.context, batch.text.mask, strict=True)
    return null.padding.join([null.tokens if gone else context[mask] for gone, context, mask in rows])


def _null_of(folder: Path) -> StoredText:
    """The null embedding of a folder; where its report is older than padding, its model says how it pads."""
    tokens, report = stored_null(folder), stored_report(folder)
    if tokens is None:
        raise DataError(f"{folder / NULL} is missing or not whole: {AGAIN}")
    if "text" in report:
        return StoredText(tokens.float(), Padding(**report["text"]))
    model = read_settings(folder)["model"]
    try:
        return StoredText(tokens.float(), padding_of(model))
    except ValueError as error:
        raise DataError(
            f"{folder} does not say how its texts are padded, and its model {model!r} cannot be read: put the model "
            "back and prepare it again with the same command, which keeps its chunks"
        ) from error


def _shapes(path: Path, number: int, clip: dict[str, Any]) -> dict[str, str]:
    """What one clip of a folder holds, so all of them: kind → the shape of a frame, `4x8x8`, or its sizes."""
    with safe_open(str(path), framework="pt") as file:
        kept = [kind for kind in KEEP if f"{number}.{kind}" in file.keys()]  # noqa: SIM118 -- no dict
        if "size" in clip:
            sizes = ", ".join("x".join(map(str, size)) for size in sorted(read_settings(path.parent)["size"]))
            return dict.fromkeys(kept, f"of the sizes {sizes}")
        return {kind: "x".join(map(str, file.get_slice(f"{number}.{kind}").get_shape()[1:])) for kind in kept}


def _check_alike(shapes: dict[Path, dict[str, str]]) -> None:
    """Raise DataError unless clips of all folders (folder → kind → shape) fit into one batch."""
    first, *others = shapes
    for other in others:
        for kind, shape in shapes[first].items():
            if shapes[other].get(kind, shape) != shape:
                raise DataError(
                    f"data must name folders of one kind and size: {kind} are {shape} in {first} and "
                    f"{shapes[other][kind]} in {other}"
                )
        if not shapes[first].keys() & shapes[other].keys() & set(KEEP):
            kinds = [next(kind for kind in KEEP if kind in shapes[folder]) for folder in (first, other)]
            raise DataError(
                f"data must name folders of one kind and size: {first} holds {kinds[0]} and {other} holds {kinds[1]}"
            )


def _frames(file: Any, name: str, frames: np.ndarray) -> Tensor:
    """Frames of a stored clip, channels first: (C, T, H, W)."""
    stored = file.get_slice(name)
    picked = torch.cat([stored[int(i) : int(i) + 1] for i in frames])
    if picked.dtype == torch.uint8:
        return picked.permute(3, 0, 1, 2).float() / 127.5 - 1
    return picked.transpose(0, 1).float()


def measure_speed(make_batch: Callable[[np.random.Generator], T], count: int, seconds: float) -> dict[str, float]:
    """Clips a second and clips a second of processor time of batches of `count`, over about `seconds`."""
    make_batch(np.random.default_rng(0))
    clips, start, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        make_batch(np.random.default_rng(clips))
        clips += count
    wall, cpu = time.perf_counter() - start, time.process_time() - busy
    return {"clips_per_second": clips / wall, "clips_per_core_second": clips / max(cpu, 1e-9)}

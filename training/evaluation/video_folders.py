"""Folders of videos under evaluation."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionframes_core.media.frames import batches, to_pixels
from fusionframes_core.media.media_files import VIDEO_SUFFIXES
from fusionframes_core.media.read_video import read_video

from ..data.caption_files import caption_rows
from ..data.caption_match import match_captions
from ..data.items import DataError, missing_sentence, some_of
from ..data.video_walk import walk_videos

CAPTIONS = "captions.jsonl"


def video_files(folder: Path) -> list[Path]:
    """The videos of a folder by name: files, and folders of numbered pictures. What is passed over is told.

    Raises DataError when there is none.
    """
    walk = walk_videos(folder)
    files = [path for key, path in walk.files.items() if "/" not in key]
    skipped = [*walk.skipped, *((key, "in a folder of the folder") for key in walk.files if "/" in key)]
    told = some_of([f"{key} ({why})" for key, why in skipped])
    if not files:
        others = f"; passed over: {told}" if skipped else ""
        raise DataError(f"{folder} must hold videos ({', '.join(VIDEO_SUFFIXES)}); it has none{others}")
    if skipped:
        print(f"note: {len(skipped)} passed over in {folder}: {told}", file=sys.stderr)
    return sorted(files)


def read_frames(path: Path, frames: int | None = None) -> NDArray[np.uint8]:
    """The first `frames` frames (T, H, W, 3), or all. Raises DataError when there are fewer."""
    video, _ = read_video(path, max_frames=frames)
    if frames is not None and len(video) < frames:
        raise DataError(f"{path} must have at least {frames} frames; it has {len(video)}")
    return video


def batches_of(files: list[Path], size: int, frames: int | None = None) -> Iterator[Tensor]:
    """Videos (B, 3, T, H, W) in [−1, 1], `size` at once. Raises DataError when videos of a batch differ in shape."""
    for part in batches(len(files), size):
        videos = [read_frames(path, frames) for path in files[part]]
        shapes = {video.shape for video in videos}
        if len(shapes) > 1:
            raise DataError(f"videos in {files[0].parent} must be of one size and length; got {sorted(shapes)[:3]}")
        yield torch.stack([to_pixels(video) for video in videos])


def pairs_of(real: Path, fake: Path) -> list[tuple[Path, Path]]:
    """Videos of both folders that have the same name, of files whatever their format.

    Raises DataError when one of `fake` has no partner, or several.
    """
    partners, files = video_files(real), video_files(fake)
    same_name, same_call = {path.name: [path] for path in partners}, defaultdict(list)
    for path in partners:
        same_call[_called(path)].append(path)
    found = [same_name.get(path.name) or same_call[_called(path)] for path in files]
    missing = [path.name for path, ours in zip(files, found, strict=True) if not ours]
    if missing:
        raise DataError(missing_sentence(fake, missing, real))
    chosen = Counter(one for ours in found for one in ours)
    for path, ours in zip(files, found, strict=True):
        if len(ours) > 1 or chosen[ours[0]] > 1:
            raise DataError(f"{real} and {fake} must each have one video called {_called(path)}; there are several")
    return [(ours[0], path) for path, ours in zip(files, found, strict=True)]


def _called(video: Path) -> str:
    """A video's name; a folder of pictures may have a dot in it."""
    return video.name if video.is_dir() else video.stem


def prompts_of(folder: Path, captions: Path | None) -> list[tuple[Path, str]]:
    """Every video of a folder with its prompt, from `captions` or the folder's own captions.jsonl."""
    listing = captions or folder / CAPTIONS
    files = {path.name: path for path in video_files(folder)}
    texts = match_captions(caption_rows(listing), files, folder, listing).texts
    missing = [name for name in files if not texts.get(name)]
    if missing:
        raise DataError(f"{listing} must have a caption for every video of {folder}; it has none for {missing[0]}")
    return [(path, texts[name][0]) for name, path in files.items()]

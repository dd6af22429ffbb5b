"""Data sets as they are published: where the videos lie and what their captions are."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from fusionframes_core.files import stand_in_at
from fusionframes_core.media.media_files import VIDEO_SUFFIXES

from .caption_files import caption_rows
from .caption_match import match_captions
from .items import (
    Buckets,
    DataError,
    Footage,
    Found,
    Item,
    Picture,
    Rate,
    Size,
    VideoError,
    chunked,
    missing_sentence,
    some_of,
)
from .text_files import UnreadableText, lines_of, read_text
from .video_frames import decode, fit
from .video_walk import Walk, walk_videos

SPLITS = ("train", "test", "all")
MISSING = "the file is missing"
SEPTUPLET = 7
SEPTUPLET_RATE = 24.0  # not said in the files


class VideoFiles:
    """Items that are video files; the base of most layouts."""

    needs_captions = True

    def items(self, chunk: object) -> Iterator[Item]:
        """The chunk's own list."""
        yield from cast("list[Item]", chunk)

    def footage(self, item: Item, size: Size | Buckets, fps: float | None) -> Footage:
        """The decoded file."""
        return decode(cast(Path, item.source), size, fps)


@dataclass(frozen=True)
class Folder(VideoFiles):
    """Videos anywhere under `root`, captions in a CSV or JSONL file, or each in a .txt beside its video.

    With a caption file only the videos that it names count; a video may be named several times. Without
    `skip_missing`, a name without a video is an error.
    """

    root: Path
    captions: Path | None = None
    skip_missing: bool = False

    @property
    def choices(self) -> dict[str, Any]:
        """See DataSet."""
        return {}

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        walk = _walk(self.root)
        if self.captions is None:
            items = [_with_sidecar(walk, key, path) for key, path in walk.files.items()]
            return Found(chunked(items, chunk), walk.skipped)
        said = match_captions(caption_rows(self.captions), walk.files, self.root, self.captions)
        if said.missing and not self.skip_missing:
            raise DataError(missing_sentence(self.captions, said.missing, self.root))
        items = [Item(key, walk.files[key], tuple(said.texts[key])) for key in sorted(said.texts)]
        unnamed = [(key, f"not in {self.captions.name}") for key in walk.files if key not in said.texts]
        missing = [(name, MISSING) for name in said.missing]
        return Found(chunked(items, chunk), [*missing, *unnamed, *walk.skipped], said.notes)


@dataclass(frozen=True)
class UCF101(VideoFiles):
    """`UCF-101/<Class>/v_<Class>_g01_c01.avi`, lists in `ucfTrainTestlist/`; the class, in words, is the caption."""

    root: Path
    split: str = "train"
    fold: int = 1

    @property
    def choices(self) -> dict[str, Any]:
        """See DataSet."""
        return {"split": self.split, "fold": self.fold}

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        _check_split(self.split)
        videos = self.root / "UCF-101" if (self.root / "UCF-101").is_dir() else self.root
        _check_folder(videos)
        files = walk_videos(videos).files
        names, listing = sorted(files), self.root / "ucfTrainTestlist" / f"{self.split}list{self.fold:02d}.txt"
        if self.split != "all":
            names = [line.split()[0] for line in _lines(listing)]
            missing = [name for name in names if name not in files]
            if missing:
                raise DataError(missing_sentence(listing, missing, videos))
        items = [Item(name, files[name], (class_in_words(Path(name).parent.name),)) for name in dict.fromkeys(names)]
        return Found(chunked(items, chunk))


@dataclass(frozen=True)
class MSRVTT(VideoFiles):
    """Videos `video<N>.mp4` anywhere under `root`, sentences and splits in the `annotations` JSON."""

    root: Path
    annotations: Path
    split: str = "train"
    skip_missing: bool = False

    @property
    def choices(self) -> dict[str, Any]:
        """See DataSet."""
        return {"split": self.split}

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        _check_split(self.split, (*SPLITS, "validate"))
        _check_folder(self.root)
        videos, sentences = _annotations(self.annotations)
        files = _by_id(walk_videos(self.root).files.values())
        names = [name for name, split in videos.items() if self.split in ("all", split)]
        missing = [name for name in names if name not in files]
        if missing and not self.skip_missing:
            raise DataError(missing_sentence(self.annotations, missing, self.root))
        items = [Item(name, files[name], tuple(sentences[name])) for name in names if name in files]
        return Found(chunked(items, chunk), [(name, MISSING) for name in missing])


@dataclass(frozen=True)
class Vimeo90k:
    """`sequences/00001/0001/im1.png` ... `im7.png`, listed in `sep_trainlist.txt` and `sep_testlist.txt`; no text."""

    root: Path
    split: str = "train"
    needs_captions = False

    @property
    def choices(self) -> dict[str, Any]:
        """See DataSet."""
        return {"split": self.split}

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        _check_split(self.split)
        _check_folder(self.root / "sequences")
        lists = [self.root / f"sep_{name}list.txt" for name in SPLITS[:2] if self.split in (name, "all")]
        names = [line for listing in lists for line in _lines(listing)]
        folders = {name: self.root / "sequences" / name for name in names}
        missing = [name for name, folder in folders.items() if not folder.is_dir()]
        if missing:
            raise DataError(missing_sentence(lists[0], missing, self.root / "sequences"))
        return Found(chunked([Item(name, folder) for name, folder in folders.items()], chunk))

    def items(self, chunk: object) -> Iterator[Item]:
        """See DataSet."""
        yield from cast("list[Item]", chunk)

    def footage(self, item: Item, size: Size | Buckets, fps: float | None) -> Footage:
        """The seven pictures."""
        return Footage(self._septuplet(cast(Path, item.source), size), SEPTUPLET_RATE, Rate(SEPTUPLET_RATE))

    def _septuplet(self, folder: Path, size: Size | Buckets) -> Iterator[Picture]:
        shape = None
        for number in range(1, SEPTUPLET + 1):
            path = folder / f"im{number}.png"
            picture = cv2.imread(str(path))
            if picture is None:
                what = stand_in_at(path, "videos") if path.is_file() else None
                raise VideoError(f"broken: im{number}.png is {what or 'missing or no picture'}")
            if shape not in (None, picture.shape):
                raise VideoError(f"changes size at im{number}.png")
            shape = picture.shape
            yield fit(np.ascontiguousarray(picture[..., ::-1], np.uint8), size)


def class_in_words(name: str) -> str:
    """`ApplyEyeMakeup` → `apply eye makeup`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _by_id(videos: Iterable[Path]) -> dict[str, Path]:
    """Videos by the name that annotations have for them; folders of frames stand in where there is no file.

    Raises DataError for two files of one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(videos, key=lambda path: path.is_file()):
        earlier = found.get(path.stem)
        if earlier is not None and earlier.is_file():
            raise DataError(f"{path.stem} must be one video; there are {earlier} and {path}")
        found[path.stem] = path
    return found


def _annotations(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Video → split, and video → sentences."""
    if not path.is_file():
        raise DataError(f"no annotations at {path}")
    sentences: dict[str, list[str]] = defaultdict(list)
    try:
        content = json.loads(read_text(path))
        videos = {str(video["video_id"]): str(video.get("split", "train")) for video in content["videos"]}
        for sentence in content["sentences"]:
            sentences[sentence["video_id"]].append(str(sentence["caption"]).strip())
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} must be MSR-VTT's annotation JSON with 'videos' and 'sentences'") from error
    return videos, sentences


def _with_sidecar(walk: Walk, key: str, video: Path) -> Item:
    """A video with the .txt beside it."""
    path = walk.text_beside(key)
    try:
        text = "\n".join(lines_of(read_text(path))).strip() if path else ""
    except UnreadableText as error:
        return Item(key, video, problem=f"caption is {error.reason}")
    except OSError as error:
        return Item(key, video, problem=f"caption cannot be read: {error.strerror}")
    return Item(key, video, (text,) if text else ())


def _walk(folder: Path) -> Walk:
    """What lies in `folder`. Raises DataError when there is no video."""
    _check_folder(folder)
    walk = walk_videos(folder)
    if not walk.files:
        others = f"; passed over: {some_of([f'{key} ({why})' for key, why in walk.skipped])}" if walk.skipped else ""
        raise DataError(f"{folder} must hold videos ({', '.join(VIDEO_SUFFIXES)}); it has none{others}")
    return walk


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"no list at {path}")
    try:
        return [line.strip() for line in lines_of(read_text(path)) if line.strip()]
    except UnreadableText as error:
        raise DataError(f"{path} must be a list in UTF-8; it is {error}") from error


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise DataError(f"no folder at {path}")


def _check_split(split: str, allowed: tuple[str, ...] = SPLITS) -> None:
    if split not in allowed:
        raise DataError(f"split must be one of {', '.join(allowed)}; got {split!r}")

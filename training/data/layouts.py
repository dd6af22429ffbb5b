"""Data sets as they are published: where the videos lie and what their captions are."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from .items import VIDEO_SUFFIXES, DataError, Found, Item, Picture, VideoError, chunked, missing_sentence
from .video_frames import decode, fit

SPLITS = ("train", "test", "all")
VIDEO_COLUMNS, CAPTION_COLUMNS = ("video", "path", "file", "file_name", "name"), ("caption", "text", "prompt")
SEPTUPLET = 7
SEPTUPLET_RATE = 24.0  # not said in the files


class VideoFiles:
    """Items that are video files; the base of most layouts."""

    needs_captions = True

    def items(self, chunk: object) -> Iterator[Item]:
        """The chunk's own list."""
        yield from cast("list[Item]", chunk)

    def pictures(self, item: Item, size: tuple[int, int], fps: float | None) -> tuple[Iterator[Picture], float]:
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

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        _check_folder(self.root)
        files = {path.relative_to(self.root).as_posix(): path for path in _videos(self.root)}
        if not files:
            raise DataError(f"{self.root} must hold videos ({', '.join(VIDEO_SUFFIXES)}); it has none")
        if self.captions is None:
            items = [Item(name, path, _sidecar(path)) for name, path in files.items()]
            return Found(chunked(items, chunk))
        texts = read_captions(self.captions)
        missing = [name for name in texts if name not in files]
        if missing and not self.skip_missing:
            raise DataError(missing_sentence(self.captions, missing, self.root))
        items = [Item(name, files[name], tuple(texts[name])) for name in sorted(texts) if name in files]
        unnamed = [(name, f"not in {self.captions.name}") for name in files if name not in texts]
        return Found(chunked(items, chunk), [(name, "the file is missing") for name in missing] + unnamed)


@dataclass(frozen=True)
class UCF101(VideoFiles):
    """`UCF-101/<Class>/v_<Class>_g01_c01.avi`, lists in `ucfTrainTestlist/`; the class, in words, is the caption."""

    root: Path
    split: str = "train"
    fold: int = 1

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        _check_split(self.split)
        videos = self.root / "UCF-101" if (self.root / "UCF-101").is_dir() else self.root
        _check_folder(videos)
        files = {path.relative_to(videos).as_posix(): path for path in _videos(videos)}
        names, listing = sorted(files), self.root / "ucfTrainTestlist" / f"{self.split}list{self.fold:02d}.txt"
        if self.split != "all":
            names = [line.split()[0] for line in _lines(listing)]
            missing = [name for name in names if name not in files]
            if missing:
                raise DataError(missing_sentence(listing, missing, videos))
        items = [Item(name, files[name], (class_in_words(Path(name).parent.name),)) for name in names]
        return Found(chunked(items, chunk))


@dataclass(frozen=True)
class MSRVTT(VideoFiles):
    """Videos `video<N>.mp4` anywhere under `root`, sentences and splits in the `annotations` JSON."""

    root: Path
    annotations: Path
    split: str = "train"
    skip_missing: bool = False

    def find(self, chunk: int) -> Found:
        """See DataSet."""
        _check_split(self.split, (*SPLITS, "validate"))
        _check_folder(self.root)
        videos, sentences = _annotations(self.annotations)
        files = {path.stem: path for path in _videos(self.root)}
        names = [name for name, split in videos.items() if self.split in ("all", split)]
        missing = [name for name in names if name not in files]
        if missing and not self.skip_missing:
            raise DataError(missing_sentence(self.annotations, missing, self.root))
        items = [Item(name, files[name], tuple(sentences[name])) for name in names if name in files]
        return Found(chunked(items, chunk), [(name, "the file is missing") for name in missing])


@dataclass(frozen=True)
class Vimeo90k:
    """`sequences/00001/0001/im1.png` ... `im7.png`, listed in `sep_trainlist.txt` and `sep_testlist.txt`; no text."""

    root: Path
    split: str = "train"
    needs_captions = False

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

    def pictures(self, item: Item, size: tuple[int, int], fps: float | None) -> tuple[Iterator[Picture], float]:
        """The seven pictures."""
        return self._septuplet(cast(Path, item.source), size), SEPTUPLET_RATE

    def _septuplet(self, folder: Path, size: tuple[int, int]) -> Iterator[Picture]:
        shape = None
        for number in range(1, SEPTUPLET + 1):
            picture = cv2.imread(str(folder / f"im{number}.png"))
            if picture is None:
                raise VideoError(f"broken: im{number}.png is missing or no picture")
            if shape not in (None, picture.shape):
                raise VideoError(f"changes size at im{number}.png")
            shape = picture.shape
            yield fit(np.ascontiguousarray(picture[..., ::-1], np.uint8), size)


def read_captions(path: Path) -> dict[str, list[str]]:
    """Video name → its captions, from a CSV with a header or JSONL. Raises DataError that names the line."""
    if not path.is_file():
        raise DataError(f"no caption file at {path}")
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise DataError(f"captions must be a .csv or a .jsonl file; got {path}")
    texts: dict[str, list[str]] = defaultdict(list)
    try:
        rows = list(_rows(path))
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path} must be a readable {path.suffix} file in UTF-8: {error}") from error
    for number, row in rows:
        video, text = (
            next((row[name] for name in names if row.get(name)), None) for names in (VIDEO_COLUMNS, CAPTION_COLUMNS)
        )
        if not isinstance(video, str) or not isinstance(text, str | None):
            raise DataError(f"{path}, line {number}: needs text in the fields 'video' and 'caption'; got {row}")
        texts[video].extend([text.strip()] if text and text.strip() else [])
    return dict(texts)


def _rows(path: Path) -> Iterator[tuple[int, dict]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            yield from ((number, row) for number, row in enumerate(csv.DictReader(file), 2))
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                yield number, row if isinstance(row, dict) else {"": row}


def class_in_words(name: str) -> str:
    """`ApplyEyeMakeup` → `apply eye makeup`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _annotations(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Video → split, and video → sentences."""
    if not path.is_file():
        raise DataError(f"no annotations at {path}")
    sentences: dict[str, list[str]] = defaultdict(list)
    try:
        content = json.loads(path.read_text("utf-8"))
        videos = {str(video["video_id"]): str(video.get("split", "train")) for video in content["videos"]}
        for sentence in content["sentences"]:
            sentences[sentence["video_id"]].append(str(sentence["caption"]).strip())
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} must be MSR-VTT's annotation JSON with 'videos' and 'sentences'") from error
    return videos, sentences


def _sidecar(video: Path) -> tuple[str, ...]:
    path = video.with_suffix(".txt")
    text = path.read_text("utf-8", errors="replace").strip() if path.is_file() else ""
    return (text,) if text else ()


def _videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"no list at {path}")
    return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise DataError(f"no folder at {path}")


def _check_split(split: str, allowed: tuple[str, ...] = SPLITS) -> None:
    if split not in allowed:
        raise DataError(f"split must be one of {', '.join(allowed)}; got {split!r}")

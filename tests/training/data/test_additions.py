"""Preparing again: only what is new or changed is encoded, a moved folder goes on, nothing is lost unasked."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers.video_clips import RECIPE, moving, write
from training.data import writing
from training.data.chunk_index import read_indexes
from training.data.items import DataError, Item
from training.data.layouts import Folder, VideoFiles
from training.data.preparing import prepare
from training.data.recipe import Recipe
from training.data.streams import MovingShapes, WebDataset

PIXELS = replace(RECIPE, keep=("pixels",))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was decoded and encoded, and captions that were encoded, in order; emptied by the tests."""
    done: list[str] = []
    text = writing.Encoder.text

    def count_clips(layout: type) -> None:
        footage = layout.footage

        def counted(self: object, item: Item, *how: object) -> object:
            done.append(item.key)
            return footage(self, item, *how)

        monkeypatch.setattr(layout, "footage", counted)

    def count_text(self: writing.Encoder, caption: str) -> torch.Tensor:
        done.extend([caption] if caption else [])
        return text(self, caption)

    for layout in (VideoFiles, MovingShapes):
        count_clips(layout)
    monkeypatch.setattr(writing.Encoder, "text", count_text)
    return done


def add(folder: Path, name: str, caption: str, seed: int = 0, frames: int = 12) -> Path:
    path = write(folder / f"{name}.mp4", moving(frames, seed=seed))
    path.with_suffix(".txt").write_text(caption)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five videos; `b` is too short."""
    for index, name in enumerate("acegb"):
        add(tmp_path / "videos", name, f"a {name} square", index, frames=5 if name == "b" else 12)
    return tmp_path / "videos"


def contents(out: Path) -> dict[str, list[torch.Tensor]]:
    """Video → pixels and texts of its clips."""
    found: dict[str, list[torch.Tensor]] = {}
    for index in read_indexes(out):
        tensors = load_file(index.path)
        for i, clip in enumerate(index.summary["clips"]):
            texts = [tensors[f"{i}.{j}.text"] for j in range(len(clip["captions"]))]
            found.setdefault(clip["video"], []).extend([tensors[f"{i}.pixels"], *texts])
        assert len(tensors) == sum(1 + len(clip["captions"]) for clip in index.summary["clips"]), "nothing is left over"
    return found


def check_as_new(data: Folder, out: Path, recipe: Recipe = PIXELS) -> None:
    """What lies in `out` is what preparing into an empty folder gives, but for the order."""
    fresh = out.with_name("fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    wanted = prepare(data, fresh, recipe, chunk=2)
    report = json.loads((out / "report.json").read_text("utf-8"))
    for name in ("videos", "clips", "frames", "rates"):
        assert report[name] == wanted[name]
    key = lambda entry: entry["video"]  # noqa: E731
    assert sorted(report["skipped"], key=key) == sorted(wanted["skipped"], key=key)
    made, new = contents(out), contents(fresh)
    assert made.keys() == new.keys()
    for video in new:
        assert all(torch.equal(a, b) for a, b in zip(made[video], new[video], strict=True)), video


def test_added_videos_and_edited_captions_alone_are_encoded(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    data, out = Folder(folder), tmp_path / "out"
    prepare(data, out, PIXELS, chunk=2)
    before = {path: path.stat().st_mtime_ns for path in out.glob("chunk_*")}
    encoded.clear()
    prepare(data, out, PIXELS, chunk=2)
    assert (encoded, {path: path.stat().st_mtime_ns for path in out.glob("chunk_*")}) == ([], before)
    add(folder, "d", "a new square", 7)
    prepare(data, out, PIXELS, chunk=2)
    assert encoded == ["d.mp4", "a new square"]
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a new video has a chunk of its own"
    encoded.clear()
    (folder / "c.txt").write_text("an edited square")
    prepare(data, out, PIXELS, chunk=2)
    assert encoded == ["an edited square"], "its frames are kept"
    encoded.clear()
    add(folder, "e", "a e square", 99)
    add(folder, "b", "long enough", 3)
    prepare(data, out, PIXELS, chunk=2)
    assert encoded == ["b.mp4", "long enough", "e.mp4"], "another content, the same caption"
    check_as_new(data, out)


def test_a_moved_folder_goes_on_by_what_is_in_its_files(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    out = tmp_path / "out"
    prepare(Folder(folder), out, PIXELS, chunk=2)
    encoded.clear()
    shutil.copytree(folder, tmp_path / "copied", copy_function=shutil.copyfile)
    for path in (tmp_path / "copied").iterdir():
        os.utime(path, (1, 1))
    shutil.rmtree(folder)
    shutil.move(out, tmp_path / "moved_out")
    add(tmp_path / "copied", "z", "a z square", 8)
    prepare(Folder(tmp_path / "copied"), tmp_path / "moved_out", PIXELS, chunk=2)
    assert encoded == ["z.mp4", "a z square"]
    check_as_new(Folder(tmp_path / "copied"), tmp_path / "moved_out")


def test_clips_go_only_when_asked(folder: Path, tmp_path: Path) -> None:
    data, out = Folder(folder), tmp_path / "out"
    prepare(data, out, PIXELS, chunk=2)
    kept = contents(out)
    (folder / "a.mp4").unlink()
    (folder / "c.txt").write_bytes(b"caf\xe9")
    (folder / "b.mp4").unlink()
    words = r"out holds clips of 2 videos that are not in the data set any more, or without a caption: a.mp4, c.mp4"
    with pytest.raises(DataError, match=words):
        prepare(data, out, PIXELS, chunk=2)
    assert contents(out).keys() == kept.keys()
    prepare(data, out, PIXELS, chunk=2, drop_removed=True)
    assert contents(out).keys() == {"e.mp4", "g.mp4"}
    check_as_new(data, out)
    (folder / "c.txt").write_text("back")
    prepare(data, out, PIXELS, chunk=2)
    check_as_new(data, out)


@pytest.mark.parametrize("workers", [0, 1])
def test_clips_of_a_shard_go_only_when_asked(tmp_path: Path, workers: int) -> None:
    """A shard that was made again with fewer videos, which are known only when it is read."""
    out, how = tmp_path / "out", {"chunk": 4, "workers": workers}
    prepare(shards(tmp_path, 3), out, PIXELS, **how)
    kept = contents(out)
    with pytest.raises(DataError, match="out holds clips of a video that is not in the data set any more"):
        prepare(shards(tmp_path, 2), out, PIXELS, **how)
    assert contents(out).keys() == kept.keys()
    prepare(shards(tmp_path, 2), out, PIXELS, **how, drop_removed=True)
    assert contents(out).keys() < kept.keys()


def shards(folder: Path, count: int) -> WebDataset:
    """One tar file of so many videos."""
    with tarfile.open(folder / "a.tar", "w") as archive:
        for index in range(count):
            archive.add(write(folder / f"{index}.mp4", moving(12, seed=index)), f"{index}.mp4")
            (folder / f"{index}.txt").write_text(f"number {index}")
            archive.add(folder / f"{index}.txt", f"{index}.txt")
    return WebDataset(str(folder / "a.tar"))


def test_another_folder_of_videos_is_refused(folder: Path, tmp_path: Path) -> None:
    prepare(Folder(folder), tmp_path / "out", PIXELS, chunk=2)
    add(tmp_path / "other", "x", "another")
    with pytest.raises(DataError, match=r"out holds clips of 4 videos that are not in the data set any more"):
        prepare(Folder(tmp_path / "other"), tmp_path / "out", PIXELS, chunk=2)


def test_captions_from_another_kind_of_file_are_edits(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    prepare(Folder(folder), tmp_path / "out", PIXELS, chunk=2)
    encoded.clear()
    lines = [json.dumps({"video": f"{name}.mp4", "caption": f"a {name} square"}) for name in "abceg"]
    lines.append(json.dumps({"video": "g.mp4", "caption": "a second"}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    data = Folder(folder, tmp_path / "captions.jsonl")
    prepare(data, tmp_path / "out", PIXELS, chunk=2)
    assert encoded == ["a second"]
    check_as_new(data, tmp_path / "out")


def test_more_scenes_of_the_same_seed(tmp_path: Path, encoded: list[str]) -> None:
    prepare(MovingShapes(3), tmp_path / "out", PIXELS, chunk=2)
    encoded.clear()
    prepare(MovingShapes(4), tmp_path / "out", PIXELS, chunk=2)
    assert [key for key in encoded if key.startswith("scene")] == ["scene_000003"]
    with pytest.raises(DataError, match="was prepared with data"):
        prepare(MovingShapes(4, seed=1), tmp_path / "out", PIXELS, chunk=2)


def make_older(out: Path, root: Path) -> None:
    """A folder as versions without an index wrote it."""
    for index in read_indexes(out):
        summary = {name: index.summary[name] for name in ("clips", "skipped", "videos")}
        with safe_open(str(index.path), framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 -- no dict
        save_file(tensors, index.path, {"format": "pt", "summary": json.dumps(summary)})
    path = out / "settings.json"
    settings = json.loads(path.read_text("utf-8"))
    settings["data"] |= {"root": str(root), "captions": None, "skip_missing": False}
    path.write_text(json.dumps(settings | {"videos": "0123"}))


def test_a_folder_of_an_older_version_goes_on(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    data, out = Folder(folder), tmp_path / "out"
    prepare(data, out, PIXELS, chunk=2)
    (out / "chunk_00001.safetensors").unlink()
    make_older(out, folder)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("chunk_*")}
    encoded.clear()
    prepare(data, out, PIXELS, chunk=2)
    assert [name for name in encoded if name.endswith(".mp4")] == ["c.mp4", "e.mp4"]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    (folder / "a.txt").write_text("an edited square")
    encoded.clear()
    prepare(data, out, PIXELS, chunk=2)
    assert encoded == ["an edited square"]
    check_as_new(data, out)


def test_an_older_folder_of_scenes_goes_on(tmp_path: Path, encoded: list[str]) -> None:
    prepare(MovingShapes(2), tmp_path / "out", PIXELS, chunk=1)
    make_older(tmp_path / "out", tmp_path)
    encoded.clear()
    prepare(MovingShapes(3), tmp_path / "out", PIXELS, chunk=1)
    assert [key for key in encoded if key.startswith("scene")] == ["scene_000002"]


def test_unknown_words_and_half_characters_are_in_the_report(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    add(videos, "a", "a red circle")
    add(videos, "b", "a zebra")
    report = prepare(Folder(videos), tmp_path / "out", PIXELS)
    (said,) = report["captions"]["first"]
    assert (report["captions"]["count"], said["video"]) == (1, "b.mp4")
    assert said["said"].startswith("words of the prompt 'a zebra' mean nothing to the model")
    assert prepare(Folder(videos), tmp_path / "out", PIXELS) == report, "what was said is kept with the clip"

"""WebDataset shards: keys with dots, files in any order, and samples that are none."""

from __future__ import annotations

import codecs
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.video_clips import moving, write
from training.data.items import DataError, Footage, Item
from training.data.preparing import prepare
from training.data.recipe import Recipe
from training.data.streams import WebDataset


def tar(path: Path, files: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def items_of(path: Path | str) -> dict[str, Item]:
    data = WebDataset(str(path))
    return {item.key: item for chunk in data.find(1).chunks for item in data.items(chunk)}


def test_keys_with_dots_files_in_any_order_and_upper_case(tmp_path: Path) -> None:
    files = [
        ("./clip.v1.mp4", b"1"),
        ("./UP.MP4", b"2"),
        ("./clip.v2.mp4", b"3"),
        ("./deep.er/x.webm", b"4"),
        ("./UP.TXT", b"up"),
        ("./clip.v2.txt", b"second"),
        ("./._clip.v1.mp4", b"AppleDouble"),
        ("./clip.v1.txt", codecs.BOM_UTF16_LE + "first".encode("utf-16-le")),
        ("./deep.er/x.json", b'{"caption": "deep"}'),
    ]
    items = items_of(tar(tmp_path / "a.tar", files))
    assert {key: item.captions for key, item in items.items()} == {
        "clip.v1": ("first",),
        "UP": ("up",),
        "clip.v2": ("second",),
        "deep.er/x": ("deep",),
    }
    assert [item.source.getvalue() for item in items.values()] == [b"1", b"2", b"3", b"4"]
    assert not any(item.problem for item in items.values())


def test_samples_that_are_none_are_said_as_what_they_are(tmp_path: Path) -> None:
    video = write(tmp_path / "a.mp4", moving(10)).read_bytes()
    files = [
        ("good.mp4", video),
        ("good.txt", b"good"),
        ("text.txt", b"only text"),
        ("two.mp4", video),
        ("two.webm", video),
        ("two.txt", b"two"),
        ("again.mp4", video),
        ("again.mp4", video),
        ("again.txt", b"again"),
        ("alone.mp4", video),
        ("latin.mp4", video),
        ("latin.txt", b"caf\xe9"),
        ("half.mp4", video),
        ("half.json", b'{"caption": "\\ud800"}'),
        ("bad.mp4", video),
        ("bad.json", b"{"),
        ("README", b"about"),
    ]
    shard = tar(tmp_path / "a.tar", files)
    report = prepare(WebDataset(str(shard)), tmp_path / "out", Recipe((16, 16), ("pixels",), min_frames=9))
    assert report["videos"] == 1
    assert {entry["video"]: entry["why"] for entry in report["skipped"]} == {
        "text": "no video in the sample: it has text.txt",
        "two": "several videos in the sample: .mp4, .webm",
        "again": "the tar file has its .mp4 twice",
        "alone": "no caption",
        "latin": "caption is not UTF-8",
        "half": r"caption: \ud800 is half of a character",
        "bad": "its .json is no JSON",
        "README": "no video in the sample: it has README",
    }


def test_tar_files_by_stars_or_their_folder_in_any_case(tmp_path: Path) -> None:
    for name in ("b.TAR", "a.tar"):
        tar(tmp_path / name, [(f"{name[0]}.mp4", b"1"), (f"{name[0]}.txt", b"x")])
    (tmp_path / "notes.txt").write_text("no tar")
    for shards in (tmp_path, tmp_path / "*.tar", tmp_path / "{a.tar,b.TAR}"):
        assert list(items_of(shards)) == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="must be tar files; there is none"):
        items_of(tmp_path / "empty")


def test_a_shard_that_changed_is_made_again_but_not_what_was_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    footage = WebDataset.footage

    def count(data: WebDataset, item: Item, *how: Any) -> Footage:
        made.append(item.key)
        return footage(data, item, *how)

    monkeypatch.setattr(WebDataset, "footage", count)
    files = []
    for index in range(2):
        files += [
            (f"{index}.mp4", write(tmp_path / "v.mp4", moving(10, seed=index)).read_bytes()),
            (f"{index}.txt", b"x"),
        ]
    recipe, shard = Recipe((16, 16), ("pixels",), min_frames=9), tmp_path / "s-0.tar"
    tar(shard, files[:2])
    prepare(WebDataset(str(shard)), tmp_path / "out", recipe)
    tar(shard, files)
    tar(tmp_path / "s-1.tar", files)
    report = prepare(WebDataset(str(tmp_path / "s-*.tar")), tmp_path / "out", recipe)
    assert (report["videos"], made) == (4, ["0", "1", "0", "1"]), "the first of s-0 is not made twice"
    prepare(WebDataset(str(tmp_path / "s-*.tar")), tmp_path / "out", recipe)
    assert len(made) == 4

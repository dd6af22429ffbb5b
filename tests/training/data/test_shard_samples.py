"""WebDataset shards: keys with dots, files in any order, and samples that are none."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.video_clips import moving, write
from training.data.items import DataError, Footage, Item, VideoError
from training.data.preparing import prepare
from training.data.recipe import Recipe
from training.data.shard_samples import read_samples
from training.data.streams import WebDataset


def tar(path: Path, files: list[tuple[str, bytes]], links: list[tuple[str, str]] | None = None) -> Path:
    """`links`: names of hard links and of what they mean."""
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, means in links or []:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.LNKTYPE, means
            archive.addfile(entry)
    return path


def items_of(path: Path | str) -> dict[str, Item]:
    data = WebDataset(str(path))
    return {item.key: item for chunk in data.find(1).chunks for item in data.items(chunk)}


def keys_before_damage(path: Path) -> tuple[list[str], str]:
    """The samples that are read, and what is said of the rest."""
    keys = []
    try:
        for item in read_samples(str(path)):
            keys.append(item.key)
    except VideoError as error:
        return keys, str(error)
    return keys, ""


@pytest.mark.parametrize("hole", [512, 1])
def test_a_damaged_header_is_not_the_end(tmp_path: Path, hole: int) -> None:
    """A download with a hole in it, or one wrong byte: what is before it is read, and the rest is said to be lost."""
    path = tar(tmp_path / "a.tar", [(f"{index}.mp4", b"x" * 600) for index in range(6)])
    assert keys_before_damage(path) == ([str(index) for index in range(6)], "")
    with tarfile.open(path) as archive:
        place = archive.getmember("3.mp4").offset
    content = bytearray(path.read_bytes())
    content[place : place + hole] = bytes(hole)
    path.write_bytes(content)
    keys, said = keys_before_damage(path)
    assert keys == ["0", "1", "2"]
    assert said == "broken: what follows 2.mp4 is no tar file"


@pytest.mark.parametrize("packed", ["xz", "gz", "bz2"])
def test_damage_in_a_packed_file_is_said(tmp_path: Path, packed: str) -> None:
    noise = random.Random(1)
    plain = tar(tmp_path / "a.tar", [(f"{index}.mp4", noise.randbytes(30_000)) for index in range(6)])
    with {"xz": lzma, "gz": gzip, "bz2": bz2}[packed].open(tmp_path / f"a.tar.{packed}", "wb") as file:
        file.write(plain.read_bytes())
    path = tmp_path / f"a.tar.{packed}"
    assert keys_before_damage(path)[1] == ""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    assert keys_before_damage(path)[1].startswith("broken: ")


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


@pytest.mark.parametrize(
    ("described", "captions"),
    [
        ('{"caption": "x"}', ("x",)),
        ('{"Caption": "x"}', ("x",)),
        ('{"TEXT ": "x"}', ("x",)),
        ('{"prompt": "x"}', ("x",)),
        ('{"caption": ["x", " y ", "", null]}', ("x", "y")),
        ('{"prompt": "z", "caption": ["x"], "width": 5}', ("x", "z")),
        ('{"caption": null, "title": "x"}', ()),
        ('["x"]', ()),
    ],
)
def test_captions_of_json_have_the_names_of_caption_files(
    described: str, captions: tuple[str, ...], tmp_path: Path
) -> None:
    (item,) = items_of(tar(tmp_path / "a.tar", [("a.mp4", b"1"), ("a.json", described.encode())])).values()
    assert (item.captions, item.problem) == (captions, "")


def test_json_that_says_two_things_is_a_problem(tmp_path: Path) -> None:
    described = b'{"caption": "x", "caption": "y"}'
    (item,) = items_of(tar(tmp_path / "a.tar", [("a.mp4", b"1"), ("a.json", described)])).values()
    assert (item.captions, item.problem) == ((), "its .json is ambiguous: the key 'caption' comes twice")


def test_hard_links_are_files(tmp_path: Path) -> None:
    """GNU tar writes them for a file that it has already, under another name."""
    files = [("./a.mp4", b"1"), ("./a.txt", b"x"), ("c.mp4", b"3")]
    links = [("./b.mp4", "./a.mp4"), ("./b.txt", "./a.txt"), ("c.txt", "gone.txt")]
    items = items_of(tar(tmp_path / "a.tar", files, links))
    assert {key: item.captions for key, item in items.items()} == {"a": ("x",), "b": ("x",), "c": ()}
    assert [items[key].source.getvalue() for key in "ab"] == [b"1", b"1"]
    assert items["c"].problem == "the tar file does not have what its link means: linkname 'gone.txt' not found"


def test_what_stands_in_the_place_of_a_tar_file_is_said(tmp_path: Path) -> None:
    for content, words in (
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "it is a Git LFS pointer"),
        (b"<!DOCTYPE html>", "it is a web page"),
        (b"x" * 600, "it is none, plain or compressed, that is whole$"),
    ):
        (tmp_path / "a.tar").write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.tar must be a tar file; {words}"):
            items_of(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["[br]", "a[!b]c", "st*r"])
def test_a_folder_of_patterns_own_signs_is_itself(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name / "in"
    folder.mkdir(parents=True)
    for number in range(2):
        tar(folder / f"{number}.tar", [(f"{number}.mp4", b"1"), (f"{number}.txt", b"x")])
    for pattern in (folder / "*.tar", folder / "[01].tar", tmp_path / name / "*" / "?.tar", folder):
        assert list(items_of(pattern)) == ["0", "1"]


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

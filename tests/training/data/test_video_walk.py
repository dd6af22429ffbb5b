"""What lies in a folder of videos is found, or listed with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fusionframes_core.media.media_files import VIDEO_SUFFIXES
from tests.helpers.video_clips import moving, write
from training.data.items import DataError
from training.data.layouts import Folder
from training.data.video_walk import walk_videos


def touch(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_suffixes_in_any_case(suffix: str, tmp_path: Path) -> None:
    for name in (f"a{suffix}", f"B{suffix.upper()}"):
        touch(tmp_path / name)
    assert set(walk_videos(tmp_path).files) == {f"a{suffix}", f"B{suffix.upper()}"}
    assert {".wmv", ".flv", ".m2ts", ".mts", ".3gp", ".ts", ".mpg", ".gif", ".webp", ".ogv"} <= set(VIDEO_SUFFIXES)


def test_what_looks_like_a_video_and_is_passed_over_has_a_reason(tmp_path: Path) -> None:
    content = write(tmp_path / "good.mp4", moving(5)).read_bytes()
    for name in ("no_suffix", "renamed.bak", "half.mp4.part"):
        touch(tmp_path / name, content)
    touch(tmp_path / "old.RMVB")
    touch(tmp_path / "._good.mp4", b"\0\x05\x16\x07")
    touch(tmp_path / ".hidden.mp4", content)
    touch(tmp_path / ".trash" / "old.mp4", content)
    for name in ("good.txt", "notes.md", "data.bin", "sound.m4a"):
        touch(tmp_path / name, b"text")
    (tmp_path / "nowhere.mp4").symlink_to(tmp_path / "gone.mp4")
    walk = walk_videos(tmp_path)
    assert list(walk.files) == ["good.mp4"]
    unknown = "not a known video suffix"
    assert dict(walk.skipped) == {
        "no_suffix": unknown,
        "renamed.bak": unknown,
        "half.mp4.part": unknown,
        "old.RMVB": unknown,
        "._good.mp4": "an AppleDouble file, which holds no video",
        ".hidden.mp4": "hidden",
        ".trash/old.mp4": "hidden",
        "nowhere.mp4": "a link to nothing",
    }
    assert walk_videos(tmp_path).skipped == Folder(tmp_path).find(2).skipped


def test_linked_folders_are_read_once_and_loops_end(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    touch(root / "deep" / "a.mp4")
    touch(other / "b.mp4")
    (other / "loop").symlink_to(other)
    (root / "0_first").symlink_to(root / "deep")
    (root / "linked").symlink_to(other)
    (root / "z_again").symlink_to(other)
    (root / "up").symlink_to(tmp_path)
    walk = walk_videos(root)
    assert list(walk.files) == ["deep/a.mp4", "linked/b.mp4"], "the folder itself comes before a link to it"
    again = "a link to a folder that is read already"
    assert {name for name, why in walk.skipped if why == again} == {
        "0_first",
        "linked/loop",
        "z_again",
        "up/other",
        "up/root",
    }


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_no_utf8_is_listed(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        touch(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    walk = walk_videos(tmp_path)
    assert (walk.files, walk.skipped) == ({}, [("caf\\xe9.mp4", "its name is not UTF-8")])


def test_a_text_lies_beside_in_any_case_and_unicode_form(tmp_path: Path) -> None:
    for name in ("UP.MP4", "both.mp4", "cafe\u0301.mp4", "clip.v1.mp4", "alone.mp4"):
        touch(tmp_path / name)
    for name in ("UP.TXT", "both.TXT", "both.txt", "caf\u00e9.txt", "clip.v1.txt", "._alone.txt"):
        touch(tmp_path / name, name.encode())
    captions = {item.key: item.captions for item in Folder(tmp_path).find(9).items}
    assert captions == {
        "UP.MP4": ("UP.TXT",),
        "both.mp4": ("both.txt",),
        "cafe\u0301.mp4": ("caf\u00e9.txt",),
        "clip.v1.mp4": ("clip.v1.txt",),
        "alone.mp4": (),
    }


def test_a_folder_without_a_video_says_what_was_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "a.rmvb")
    with pytest.raises(DataError, match=r"it has none; passed over: a.rmvb \(not a known video suffix\)"):
        Folder(tmp_path).find(2)

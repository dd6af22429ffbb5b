"""What lies in a folder of videos is found, or listed with a reason."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fusionframes_core.media.media_files import VIDEO_SUFFIXES
from fusionframes_core.media.write_video import write_video
from tests.helpers.video_clips import moving, write
from tests.helpers.video_files import LFS_POINTER, bars, write_animation
from training.data.items import DataError
from training.data.layouts import Folder
from training.data.preparing import prepare
from training.data.recipe import Recipe
from training.data.video_walk import IN_THE_ROOT, NO_FRAMES, walk_videos


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


def test_folders_of_numbered_pictures_are_videos(tmp_path: Path) -> None:
    """Such as `generate --out folder` writes, with a .txt beside the folder."""
    write_video(moving(12), tmp_path / "clips" / "a", 24)
    (tmp_path / "clips" / "a").rename(tmp_path / "clips" / "a.v1")
    (tmp_path / "clips" / "a.v1.txt").write_text("a square")
    write_video(moving(2), tmp_path / "b", 24)
    (tmp_path / "b" / "other.png").write_bytes((tmp_path / "b" / "frame_0000.png").read_bytes())
    for name in ("frame_0.png", "frame_1.png", "frame_0.txt"):
        touch(tmp_path / "captioned" / name)
    for name in ("0.mp4", "0.jpg", "1.mp4", "1.jpg"):
        touch(tmp_path / "thumbnails" / name)
    write_video(moving(2), tmp_path, 24)
    walk = walk_videos(tmp_path)
    assert walk.files == {
        "clips/a.v1": tmp_path / "clips" / "a.v1",
        **{f"thumbnails/{i}.mp4": tmp_path / "thumbnails" / f"{i}.mp4" for i in range(2)},
    }
    assert dict(walk.skipped) == {".": IN_THE_ROOT, "b": NO_FRAMES, "captioned": NO_FRAMES}
    recipe = Recipe((16, 16), ("pixels",), min_frames=9)
    report = prepare(Folder(tmp_path / "clips"), tmp_path / "out", recipe)
    assert (report["clips"], report["frames"], report["rates"], report["skipped"]) == (1, 12, {"24": 1}, [])
    asked = prepare(Folder(tmp_path / "clips"), tmp_path / "out30", replace(recipe, fps=30))
    assert asked["stored_rates"] == {"30": 1}, "pictures have no rate of their own"
    (tmp_path / "clips" / "a.v1" / "frame_0011.png").unlink()
    assert prepare(Folder(tmp_path / "clips"), tmp_path / "out", recipe)["frames"] == 11, "a changed folder is new"


def test_animated_pictures_are_videos_and_still_ones_are_not(tmp_path: Path) -> None:
    for name in ("a.png", "b.webp", "c.gif", "d.apng"):
        write_animation(tmp_path / name, bars([5, 25]), [100, 100])
        if not name.endswith("gif"):
            write_animation(tmp_path / f"still_{name}", bars([5]), [100])
    walk = walk_videos(tmp_path)
    assert set(walk.files) == {"a.png", "b.webp", "c.gif", "d.apng", "still_d.apng"}
    assert walk.skipped == [(".", NO_FRAMES)]


def test_a_caption_that_is_a_pointer_is_called_so(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", moving(5)).with_suffix(".txt").write_bytes(LFS_POINTER)
    (item,) = Folder(tmp_path).find(1).items
    assert item.problem.startswith("caption is a Git LFS pointer, which only names the captions")
    (tmp_path / "captions.csv").write_bytes(LFS_POINTER)
    with pytest.raises(DataError, match=r"captions.csv must be a readable .csv file .*; it is a Git LFS pointer"):
        Folder(tmp_path, tmp_path / "captions.csv").find(1)

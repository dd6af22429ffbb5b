"""Folders of videos: which video of one is compared with which of the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusionframes_core.media.write_video import write_video
from tests.helpers.video_clips import moving
from training.data.items import DataError
from training.evaluation.video_folders import pairs_of


def filled(folder: Path, *names: str) -> Path:
    """A folder with videos of these names, `scene.N` being folders of pictures."""
    for name in names:
        made = folder / ("made" if name.startswith("scene") else "made.mp4")
        made.parent.mkdir(parents=True, exist_ok=True)
        write_video(moving(3), made, 8)
        made.rename(folder / name)
    return folder


def names_of(real: Path, fake: Path) -> list[tuple[str, str]]:
    return [(ours.name, theirs.name) for ours, theirs in pairs_of(real, fake)]


def test_the_format_may_differ_and_a_folders_name_is_whole(tmp_path: Path) -> None:
    real = filled(tmp_path / "real", "a.mp4", "scene.1", "scene.2", "b.mkv", "only_here.mp4")
    fake = filled(tmp_path / "fake", "a.mkv", "scene.1", "scene.2", "b.mkv")
    assert names_of(real, fake) == [("a.mp4", "a.mkv"), ("b.mkv", "b.mkv"), ("scene.1",) * 2, ("scene.2",) * 2]


def test_the_same_name_comes_before_another_format(tmp_path: Path) -> None:
    both = ("a.mkv", "a.mp4")
    assert names_of(filled(tmp_path / "real", *both), filled(tmp_path / "fake", *both)) == [
        (name, name) for name in both
    ]


@pytest.mark.parametrize(
    ("real", "fake"),
    [(("a.mkv", "a.mp4"), ("a.webm",)), (("a.webm",), ("a.mkv", "a.mp4")), (("a.mkv",), ("a.mkv", "a.mp4"))],
)
def test_several_of_one_name_are_refused(tmp_path: Path, real: tuple[str, ...], fake: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="must each have one video called a; there are several"):
        pairs_of(filled(tmp_path / "real", *real), filled(tmp_path / "fake", *fake))


def test_one_without_a_partner_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.mp4"):
        pairs_of(filled(tmp_path / "real", "a.mp4"), filled(tmp_path / "fake", "a.mp4", "b.mp4"))

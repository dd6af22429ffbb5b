"""Videos and a folder made of them, for tests of the data and what reads it; a fresh accelerate for every test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, PartialState

from tests.helpers.video_clips import RECIPE, moving, write, write_changing_size, write_without_frames
from training.data.layouts import Folder
from training.data.preparing import prepare


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """accelerate keeps its state for the process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good videos and one of each kind that cannot be used."""
    folder = tmp_path_factory.mktemp("videos")
    for index in range(3):
        write(folder / f"good{index}.mp4", moving(24, seed=index))
        (folder / f"good{index}.txt").write_text(f"a square number {index}\n")
    whole = (folder / "good0.mp4").read_bytes()
    for name in ("silent", "short", "broken", "torn"):
        (folder / f"{name}.txt").write_text("something")
    (folder / "broken.mp4").write_bytes(b"no video at all" * 100)
    (folder / "torn.mp4").write_bytes(whole[: len(whole) // 2])
    write(folder / "short.mp4", moving(5))
    write(folder / "captionless.mp4", moving(24))
    write_without_frames(folder / "silent.mp4")
    write_changing_size(folder / "changing.ts")
    (folder / "changing.txt").write_text("something")
    return folder


@pytest.fixture(scope="module")
def prepared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    prepare(Folder(videos), out, replace(RECIPE, keep=("latents", "pixels")), chunk=2)
    return out

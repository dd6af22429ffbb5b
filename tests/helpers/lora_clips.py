"""Clips for a LoRA, prepared as an artist prepares them."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.video_clips import moving, write
from training import prepare


def prepared_clips(folder: Path, model: Path, size: int) -> Path:
    """Two captioned videos of 14 frames in `folder`, and the data set that a model's encoders make of them."""
    videos = folder / "videos"
    videos.mkdir(parents=True)
    for number in range(2):
        write(videos / f"{number}.mp4", moving(14, (size, size)))
        (videos / f"{number}.txt").write_text(f"a ring {number}")
    options = ["--min-frames", "12", "--threshold", "0", "--size", str(size), str(size)]
    assert prepare.main(["folder", str(videos), "--out", str(folder / "data"), "--model", str(model), *options]) == 0
    return folder / "data"

"""Rates: what came in is said, what is too slow is listed, and frames of several rates are drawn by time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.video_clips import RECIPE, moving, write
from tests.helpers.video_files import write_timed
from training.data.clip_spacing import Spacing
from training.data.layouts import Folder
from training.data.prepared_clips import PreparedClips
from training.data.preparing import prepare
from training.data.video_frames import decode
from training.prepare import main

PIXELS = replace(RECIPE, keep=("pixels", "latents"))
RATES = {"f12": 12, "f24": 24, "f48": 48}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of each of three rates."""
    root = tmp_path_factory.mktemp("rates")
    for name, rate in RATES.items():
        write(root / f"{name}.mp4", moving(rate, (32, 60)), rate).with_suffix(".txt").write_text("a square")
    return root


def test_a_mix_is_told_and_what_is_too_slow_is_listed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = prepare(Folder(folder), tmp_path / "mixed", PIXELS)
    assert (mixed["rates"], mixed["stored_rates"]) == ({"12": 1, "24": 1, "48": 1},) * 2
    assert mixed["notes"] == [
        "clips have 12 to 48 FPS: frames are drawn by time, not by number; --fps brings all clips to one rate"
    ]
    arguments = ["folder", str(folder), "--out", str(tmp_path / "24"), "--size", "16", "16", "--min-frames", "9"]
    assert main([*arguments, "--fps", "24"]) == 0
    written = capsys.readouterr()
    assert "rates: 1 of 24 FPS, 1 of 48 FPS" in written.out
    assert "1 videos skipped (1 too slow)" in written.out
    assert "warning: clips have" not in written.err
    asked = prepare(Folder(folder), tmp_path / "asked", replace(PIXELS, fps=24))
    assert asked["skipped"] == [{"video": "f12.mp4", "why": "too slow: its own rate is 12 FPS of 24"}]
    assert (asked["rates"], asked["stored_rates"], asked["frames"]) == ({"24": 1, "48": 1}, {"24": 2}, 48)


def test_slow_videos_can_be_allowed_and_ruled_out_again(folder: Path, tmp_path: Path) -> None:
    recipe = replace(PIXELS, fps=24)
    for _ in range(2):
        assert prepare(Folder(folder), tmp_path / "out", recipe)["stored_rates"] == {"24": 2}
        allowed = prepare(Folder(folder), tmp_path / "out", replace(recipe, allow_slow=True))
        assert (allowed["stored_rates"], allowed["skipped"]) == ({"12": 1, "24": 2}, [])
        assert len(allowed["notes"]) == 1


def test_ntsc_rates_are_the_rates_that_they_stand_for() -> None:
    recipe = replace(PIXELS, fps=24)
    assert not recipe.is_too_slow(24000 / 1001)
    assert recipe.is_too_slow(23)
    assert (Spacing.of([24000 / 1001, 24]).frames_per_step == 1).all()


def test_frames_of_several_rates_are_as_far_apart_in_time(folder: Path, tmp_path: Path) -> None:
    """Steps are 24ths of a second: 6 steps are 3, 6 and 12 frames."""
    prepare(Folder(folder), tmp_path / "out", PIXELS)
    clips = PreparedClips([tmp_path / "out"])
    videos = [clip["video"] for *_, clip in clips.clips]
    apart = {video: clips.spacing.places(index, 3, 6).tolist() for index, video in enumerate(videos)}
    assert apart == {"f12.mp4": [0, 3, 6], "f24.mp4": [0, 6, 12], "f48.mp4": [0, 12, 24]}
    whole = {video: clips._file(path).get_tensor(f"{i}.latents") for path, i, _ in clips.clips for video in [videos[i]]}
    batch = clips.keyframes(np.random.default_rng(0), 30, num_frames=3, step=6)
    seen = set()
    for frames in batch.frames:
        fitting = {
            video
            for video, stored in whole.items()
            for start in range(len(stored) - apart[video][-1])
            if torch.equal(stored[[start + place for place in apart[video]]].transpose(0, 1).float(), frames)
        }
        assert fitting, "three frames of one video, a quarter of a second apart"
        seen |= fitting
    assert seen == set(videos)


def test_no_frame_is_drawn_twice_and_no_step_that_no_clip_has() -> None:
    spacing = Spacing.of([12, 48])
    assert spacing.fits(np.array([24, 24]), 3, 1).tolist() == [False, True], "a 24th of a second is half a frame of 12"
    assert spacing.fits(np.array([24, 24]), 3, 2).tolist() == [True, True]
    assert spacing.possible_steps(np.array([24, 24]), 9, 12).tolist() == [1, 2, 3, 4, 5]
    slow = Spacing.of([6, 12])
    assert slow.possible_steps(np.array([60, 60]), 9, 5).tolist() == [2, 3, 4, 5]


def test_one_rate_is_drawn_by_number_as_ever(folder: Path, tmp_path: Path) -> None:
    only = tmp_path / "videos"
    only.mkdir()
    for name in ("f48.mp4", "f48.txt"):
        (only / name).write_bytes((folder / name).read_bytes())
    prepare(Folder(only), tmp_path / "out", PIXELS)
    clips = PreparedClips([tmp_path / "out"])
    assert clips.spacing.places(0, 3, 6).tolist() == [0, 6, 12]
    steps = clips.windows(np.random.default_rng(1), 40, num_frames=9).skip_frames
    assert clips.lengths.tolist() == [40], "a shot of at most 40 frames; the rest is too short"
    assert set(steps.tolist()) == {1, 2, 3, 4}


def test_the_rate_of_a_variable_video_is_said_as_an_average(tmp_path: Path) -> None:
    times = [*(i / 30 for i in range(15)), *(0.5 + i / 10 for i in range(15))]
    write_timed(tmp_path / "videos" / "a.mp4", moving(30, (48, 64)), times).with_suffix(".txt").write_text("a square")
    recipe = replace(PIXELS, keep=("pixels",))
    report = prepare(Folder(tmp_path / "videos"), tmp_path / "own", recipe)
    (rate,) = report["rates"]
    assert rate.endswith(" on average")
    assert float(rate.split()[0]) == pytest.approx(15, rel=0.03)
    slow = prepare(Folder(tmp_path / "videos"), tmp_path / "24", replace(recipe, fps=24))
    assert slow["skipped"] == [
        {"video": "a.mp4", "why": f"too slow: its own rate is {rate.split()[0]} FPS on average, of 24"}
    ]
    allowed = prepare(Folder(tmp_path / "videos"), tmp_path / "24", replace(recipe, fps=24, allow_slow=True))
    assert (allowed["rates"], allowed["skipped"]) == (report["rates"], [])


def test_a_rate_that_stands_for_the_wanted_one_is_kept(tmp_path: Path) -> None:
    """Of 24000/1001 FPS no frame is taken twice to make 24."""
    path = write(tmp_path / "a.mp4", moving(30), Fraction(24000, 1001))
    footage = decode(path, (32, 40), 24)
    assert footage.fps == pytest.approx(24000 / 1001)
    assert len(list(footage.pictures)) == 30

"""Several sizes in one data set: which video takes which, and batches of one size each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.video_clips import moving, write
from training import prepare
from training.data.items import Buckets
from training.data.prepared_clips import PreparedClips

SIZES = {"wide": (32, 64), "high": (64, 32), "square": (40, 40)}


def test_the_nearest_shape_is_taken() -> None:
    """By the ratio of the sides, not by the area; equally near ones by their order."""
    buckets = Buckets(((512, 512), (448, 576), (576, 448)))
    assert buckets.nearest(1080, 1920) == (448, 576)
    assert buckets.nearest(1920, 1080) == (576, 448)
    assert buckets.nearest(64, 64) == (512, 512)
    assert Buckets(((8, 16), (16, 32))).nearest(10, 20) == (8, 16)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of each of three shapes, the high ones long."""
    folder = tmp_path_factory.mktemp("buckets")
    for name, size in SIZES.items():
        for number in range(2):
            write(folder / f"{name}{number}.mp4", moving(40 if name == "high" else 20, size, number))
            (folder / f"{name}{number}.txt").write_text(f"{name} {number}")
    return folder


@pytest.fixture(scope="module")
def data(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared to two sizes."""
    out = tmp_path_factory.mktemp("prepared") / "data"
    assert run(videos, out, "--buckets", "32x64", "64x32") == 0
    return out


def run(videos: Path, out: Path, *more: str) -> int:
    """`training.prepare folder`."""
    return prepare.main(
        ["folder", str(videos), "--out", str(out), "--min-frames", "17", "--threshold", "0", *map(str, more)]
    )


def test_batches_are_of_one_size(data: Path) -> None:
    """Every size comes, a batch has one of them, and its captions are of its clips."""
    clips = PreparedClips([data])
    assert clips.latent_sizes() == [(4, 4, 8), (4, 8, 4)]
    seen = set()
    for seed in range(30):
        batch = clips.keyframes(np.random.default_rng(seed), 3, num_frames=4, step=2)
        seen.add(batch.frames.shape)
        names = {caption.split()[0] for caption in batch.captions}
        assert names <= ({"high"} if batch.frames.shape[3] > batch.frames.shape[4] else {"wide", "square"})
    assert seen == {(3, 4, 4, 4, 8), (3, 4, 4, 8, 4)}
    again = clips.keyframes(np.random.default_rng(3), 3, num_frames=4, step=2)
    assert again.captions == clips.keyframes(np.random.default_rng(3), 3, num_frames=4, step=2).captions


def test_a_step_that_only_another_size_allows_is_the_first_ones(data: Path) -> None:
    """Windows of steps 1 and 2: only the high videos are long enough for the second."""
    clips = PreparedClips([data])
    for seed in range(20):
        batch = clips.windows(np.random.default_rng(seed), 4, num_frames=17, max_skip=2)
        if batch.frames.shape[3] < batch.frames.shape[4]:
            assert batch.skip_frames.tolist() == [1] * 4


def test_the_same_command_goes_on_and_another_one_is_refused(
    videos: Path, data: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run(videos, data, "--buckets", "32x64", "64x32") == 0
    capsys.readouterr()
    assert run(videos, data, "--size", "32", "64") == 2
    assert "was prepared with size [[32, 64], [64, 32]], not [32, 64]" in capsys.readouterr().err
    assert run(videos, data, "--buckets", "32x64", "--size", "32", "64") == 2
    assert "--size and --buckets exclude each other" in capsys.readouterr().err
    assert run(videos, data, "--buckets", "30x64") == 2
    assert "both multiples of 16; got 30x64" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run(videos, data, "--buckets", "wide")
    assert "a size must be HEIGHTxWIDTH, as 512x448; got 'wide'" in capsys.readouterr().err

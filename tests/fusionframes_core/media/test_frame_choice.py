"""Which frames of a video are taken, and in what pieces; sound as samples."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fusionframes_core.media.frame_choice import FrameChoice, regroup, take
from fusionframes_core.media.read_sound import read_sound
from tests.helpers.video_files import remux_late, write_with_sound

VIDEO = torch.arange(30.0)[:, None, None, None].expand(-1, 2, 2, 3)


def pieces(*sizes: int) -> Iterator[Tensor]:
    yield from VIDEO.split(list(sizes))


@pytest.mark.parametrize("sizes", [(30,), (8, 8, 8, 6), (1,) * 30])
@pytest.mark.parametrize("choice", [FrameChoice(), FrameChoice(skip=5, every=3), FrameChoice(cap=7, every=2, skip=1)])
def test_a_choice_is_a_slice(choice: FrameChoice, sizes: tuple[int, ...]) -> None:
    """Whatever pieces the video comes in."""
    taken = torch.cat(list(take(pieces(*sizes), choice.places(25.0))))
    assert torch.equal(taken, VIDEO[choice.skip :: choice.every][: choice.cap or None])


def test_a_rate_takes_frames_by_time() -> None:
    assert list(islice(FrameChoice(rate=12.5).places(25.0), 4)) == [0, 2, 4, 6]
    assert list(islice(FrameChoice(rate=50.0).places(25.0), 5)) == [0, 1, 1, 2, 2]
    assert list(islice(FrameChoice(rate=10.0, skip=1, every=2).places(25.0), 3)) == [3, 8, 13]


def test_no_more_is_read_than_is_taken() -> None:
    """Nothing after the last frame of a cap, and no piece before it is asked for."""
    read = []

    def counted() -> Iterator[Tensor]:
        for piece in pieces(*[5] * 6):
            read.append(len(piece))
            yield piece

    assert sum(map(len, take(counted(), FrameChoice(cap=7).places(25.0)))) == 7
    assert len(read) == 2


@pytest.mark.parametrize("sizes", [(30,), (7, 9, 14), (1,) * 30])
def test_regrouping_keeps_the_frames(sizes: tuple[int, ...]) -> None:
    made = list(regroup(pieces(*sizes), 8))
    assert [len(piece) for piece in made] == [8, 8, 8, 6]
    assert torch.equal(torch.cat(made), VIDEO)


def test_sound_as_samples(tmp_path: Path) -> None:
    """As long as the video, loud where it beeps; a part is cut out to the sample."""
    frames = np.zeros((16, 32, 32, 3), np.uint8)
    samples = read_sound(write_with_sound(tmp_path / "a.mp4", frames, 8, beep=0.5))
    assert samples is not None
    seconds = samples.waveform.shape[1] / samples.rate
    assert seconds == pytest.approx(2, abs=0.1)
    quiet = int(0.45 * samples.rate)
    assert np.abs(samples.waveform[:, :quiet]).max() < 0.1 < np.abs(samples.waveform).max()
    part = samples.between(0.5, 1.0)
    assert part.waveform.shape[1] == samples.rate
    assert np.array_equal(part.waveform[:, 0], samples.waveform[:, samples.rate // 2])


@pytest.mark.parametrize("late", [0.0, 0.5])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_sound_that_begins_later_is_silent_before(tmp_path: Path, name: str, late: float) -> None:
    """As samples it begins with the file, whose clock begins anywhere in a transport stream."""
    frames = np.zeros((16, 32, 32, 3), np.uint8)
    source = write_with_sound(tmp_path / "source.mkv", frames, 8, "ac3", beep=0.5, video="mpeg4")
    samples = read_sound(remux_late(source, tmp_path / name, "audio", late))
    assert samples is not None
    loud = np.flatnonzero(np.abs(samples.waveform).max(axis=0) > 0.3)[0] / samples.rate
    assert loud == pytest.approx(0.5 + late, abs=0.03)

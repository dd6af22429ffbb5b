"""Presentation times decide which picture is shown, whatever the file's kind and its rate."""

from __future__ import annotations

from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from fusionframes_core.media.read_video import open_video, read_video
from fusionframes_core.media.timeline import TimedPicture, make_timeline, resample
from fusionframes_core.media.video_source import DamagedVideo
from fusionframes_core.media.write_video import write_gif, write_video, written_otherwise
from tests.helpers.video_files import bars, half_of, place_of, write_animation, write_timed

SPEED = 15  # columns a second
FAST_THEN_SLOW = [*(i / 30 for i in range(15)), *(0.5 + i / 5 for i in range(15))]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_varying_rate_is_read_by_time(tmp_path: Path, name: str) -> None:
    """At 1.2 seconds the bar is at 18, though that is the nineteenth frame of a file of nine a second."""
    path = write_timed(tmp_path / name, bars([SPEED * time for time in FAST_THEN_SLOW]), FAST_THEN_SLOW)
    source = open_video(path)
    timeline = source.facts.timeline
    assert timeline.variable
    assert timeline.duration == pytest.approx(3.4, abs=0.15)
    frames, rate = read_video(path)
    assert len(frames) / float(rate) == pytest.approx(timeline.duration, abs=1 / float(rate))
    for index, picture in enumerate(frames[:-1]):
        assert place_of(picture) == pytest.approx(SPEED * index / float(rate), abs=SPEED * 0.1 + 1), index
    finer = list(source.pictures(Fraction(20)))
    assert place_of(finer[24]) == pytest.approx(18, abs=2)
    assert source.check() == timeline


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "A.APNG"])
def test_delays_of_animated_pictures_count(tmp_path: Path, name: str) -> None:
    delays = [100, 300, 200, 600]
    begins = [0, *accumulate(delays)][:-1]
    path = write_animation(tmp_path / name, bars([5, 15, 25, 35]), delays)
    source = open_video(path)
    assert [round(frame.time * 1000) for frame in source.frames()] == begins
    assert source.facts.timeline.variable
    assert source.facts.timeline.duration == pytest.approx(1.2, abs=0.01)
    assert source.check() == source.facts.timeline
    tenths = list(source.pictures(Fraction(10)))
    assert [place_of(picture) for picture in tenths] == [5, 15, 15, 25, 25, 35, 35, 35, 35, 35, 35, 35]


def test_an_even_rate_is_what_it_was(tmp_path: Path) -> None:
    """Also where the container rounds times to thousandths, or the header says another rate."""
    for name, fps in (("a.mp4", 24), ("b.mkv", 24), ("c.webm", 30), ("d.gif", 24)):
        times = [i / fps for i in range(30)]
        pictures = bars(list(range(30)))
        if name.endswith("gif"):
            write_gif(pictures, tmp_path / name, fps)
        else:
            write_timed(tmp_path / name, pictures, times, "libvpx-vp9" if name.endswith("webm") else "libx264")
        source = open_video(tmp_path / name)
        assert not source.facts.timeline.variable, name
        assert float(source.facts.timeline.rate) == pytest.approx(fps, rel=0.01)
        assert [place_of(picture) for picture in source.pictures()] == list(range(30))


def test_a_few_frames_left_out_do_not_change_the_rate() -> None:
    times = [i / 30 for i in range(100) if i not in (40, 41, 42, 70)]
    timeline = make_timeline(times, None, (Fraction(2897, 100), Fraction(30)))
    assert timeline.variable
    assert timeline.rate == 30
    assert timeline.duration == pytest.approx(100 / 30)


def test_resampling_takes_the_nearest_and_holds_the_last() -> None:
    frames = [TimedPicture(time, np.full((1, 1, 3), index, np.uint8)) for index, time in enumerate((0, 0.1, 0.5))]
    assert [int(picture[0, 0, 0]) for picture in resample(frames, 10, 8)] == [0, 1, 1, 2, 2, 2, 2, 2]
    assert list(resample([], 10, 8)) == []


@pytest.mark.parametrize(("fps", "kept"), [(50, 1), (96, 2), (100, 2), (120, 3), (Fraction(120000, 1001), 3)])
def test_a_gif_plays_at_the_right_speed(tmp_path: Path, fps: float, kept: int) -> None:
    """Players take a delay of one hundredth for ten, and FFmpeg refuses rates above 100."""
    from PIL import Image

    path = tmp_path / "out.gif"
    write_gif(bars([i % 50 for i in range(60)]), path, fps)
    delays, places = [], []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            delays.append(image.info["duration"])
            places.append(place_of(np.asarray(image.convert("RGB"))))
    assert places == [i % 50 for i in range(0, 60, kept)]
    assert min(delays) >= 20
    assert sum(delays) == pytest.approx(1000 * 60 / float(fps), abs=1000 * kept / float(fps) + 10)
    notes = written_otherwise(path, fps, 0)
    assert len(notes) == (kept > 1)
    assert all(f"{float(fps) / kept:g} FPS" in note for note in notes)


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    """In the order of numbers, without what macOS puts beside them."""
    folder = tmp_path / "frames"
    write_video(bars(list(range(12))), folder, 6)
    for number in range(12):
        (folder / f"frame_{number:04d}.png").rename(folder / f"f{number}.PNG")
    (folder / "._f0.PNG").write_bytes(b"Mac OS X")
    source = open_video(folder, folder_rate=Fraction(6))
    assert source.facts.timeline.duration == 2
    assert [place_of(picture) for picture in source.pictures()] == list(range(12))
    assert read_video(folder)[1] == 24
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="must hold pictures"):
        open_video(tmp_path / "empty")


def test_damage_after_the_last_picture_that_is_taken_is_said(tmp_path: Path) -> None:
    """A lower rate takes fewer pictures, but a file that breaks off is broken all the same."""
    path = write_timed(tmp_path / "a.mkv", bars(list(range(48))), [i / 24 for i in range(48)])
    source = open_video(half_of(path, "half.mkv"))
    with pytest.raises(DamagedVideo, match=r"of 48 frames could be read"):
        list(source.pictures(Fraction(12)))


def test_times_that_come_twice_are_no_variable_rate() -> None:
    """As FFmpeg gives them of MPEG program streams: 22, 24, 25, 26, 26, 27 ..."""
    numbers = [*range(23), *range(24, 27), *range(26, 48)]
    timeline = make_timeline([number / 24 for number in numbers], None, (Fraction(24),))
    assert (timeline.variable, timeline.rate, timeline.duration) == (False, 24, 2)
    dropped = [number for number in range(48) if not 20 <= number < 28]
    assert make_timeline([number / 24 for number in dropped], None, (Fraction(24),)).variable

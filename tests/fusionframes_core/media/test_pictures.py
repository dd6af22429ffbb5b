"""Pictures that are read as videos: upright, in the time that they say, and of one size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fusionframes_core.media.orientation import Orientation
from fusionframes_core.media.read_video import open_video, read_video
from fusionframes_core.media.timeline import make_timeline
from fusionframes_core.media.video_source import DamagedVideo, VideoFileError
from fusionframes_core.media.write_video import write_png
from tests.helpers.video_clips import write_changing_size
from tests.helpers.video_files import bars, place_of, write_animation

BROKEN_EXIF = b"Exif\0\0no TIFF header"


def corners() -> np.ndarray:
    """A picture (48, 64, 3) whose corners tell every orientation from the others."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :16], picture[32:, :16] = 255, 128
    return picture


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_brings_pictures_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    """One by one, in a folder, and animated."""
    from PIL import ExifTags, Image, ImageOps

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make] = orientation, "A camera"
    for number in range(2):
        Image.fromarray(corners()).save(tmp_path / f"{number}.{suffix}", exif=exif, lossless=True)
    with Image.open(tmp_path / f"0.{suffix}") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    sources = [open_video(tmp_path), open_video(tmp_path / f"0.{suffix}")]
    if suffix == "webp":
        second = Image.fromarray(corners())
        second.save(tmp_path / "a.webp", save_all=True, append_images=[second.rotate(180)], exif=exif, lossless=True)
        sources.append(open_video(tmp_path / "a.webp"))
    for source in sources:
        assert source.facts.size == wanted.shape[:2]
        assert np.abs(next(source.pictures()) - wanted).max() < (8 if suffix == "jpg" else 1)
        assert next(source.pictures(size=(12, 20))).shape == (12, 20, 3)


@pytest.mark.parametrize("transposed", [False, True])
def test_sizes_go_with_their_pictures(transposed: bool) -> None:
    upright = Orientation(transposed, mirrored_across=True)
    assert upright(corners()).shape[:2] == upright.swapped((48, 64))
    assert upright.swapped(upright.swapped((48, 64))) == (48, 64)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_broken_exif_says_nothing(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    Image.fromarray(corners()).save(tmp_path / f"a.{suffix}", exif=BROKEN_EXIF)
    assert read_video(tmp_path / f"a.{suffix}")[0].shape == (1, 48, 64, 3)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_pictures_without_delays_have_a_rate(tmp_path: Path, name: str) -> None:
    source = open_video(write_animation(tmp_path / name, bars([5, 15, 25]), [0] * 3))
    assert len(list(source.pictures())) == 3
    if not name.endswith("png"):
        assert (source.facts.timeline.rate, source.facts.timeline.variable) == (10, False)


@pytest.mark.parametrize(("declared", "rate"), [((), 24), ((Fraction(15),), 15)])
def test_pictures_that_are_all_shown_at_once_have_a_rate(declared: tuple[Fraction, ...], rate: int) -> None:
    timeline = make_timeline([0.0] * 6, None, declared)
    assert (timeline.rate, timeline.variable, timeline.duration) == (rate, False, 6 / rate)


def test_pictures_of_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    """The first is named; where that is allowed, the others keep their times."""
    for number in range(5):
        write_png(bars([5 * number])[0], tmp_path / f"{number}.png")
    for number in (2, 0):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
        with pytest.raises(VideoFileError, match=f"{number}.png' must be a whole video file"):
            list(open_video(tmp_path).frames())
    source = open_video(tmp_path, allow_damaged=True, folder_rate=Fraction(10))
    frames = list(source.frames())
    assert [place_of(frame.picture) for frame in frames] == [5, 15, 20]
    assert [frame.time for frame in frames] == [0.1, 0.3, 0.4]
    assert (source.check().count, source.facts.declared) == (3, 5)
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DamagedVideo, match="0 of 5 frames could be read"):
        open_video(tmp_path, allow_damaged=True)


def test_a_change_of_size_is_said(tmp_path: Path) -> None:
    """Whatever size is wanted, which would squash what comes then, and before the pictures are asked for."""
    for number, side in enumerate((16, 16, 32)):
        write_png(np.full((side, side, 3), 9, np.uint8), tmp_path / "pictures" / f"{number}.png")
    for source, where in (
        (tmp_path / "pictures", r"2\.png"),
        (write_changing_size(tmp_path / "a.ts"), r"frame \d+: 40x32, then 48x48"),
    ):
        for size in (None, (16, 16)):
            with pytest.raises(VideoFileError, match=f"changes size at {where}"):
                read_video(source, size)
        with pytest.raises(VideoFileError, match=f"changes size at {where}"):
            open_video(source).check()
        assert len(read_video(source, max_frames=2)[0]) == 2


def test_pictures_with_a_palette_are_scaled(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(2):
        Image.fromarray(bars([20])[0]).quantize(4).save(tmp_path / f"{number}.png")
    assert place_of(next(open_video(tmp_path).pictures(size=(24, 32)))) == 10

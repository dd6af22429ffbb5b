"""Every kind of file is read as what it means: its real stream, shape, colours, and all of its frames."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from fusionframes_core.media.media_files import VIDEO_SUFFIXES, are_numbered, is_video
from fusionframes_core.media.picture_sources import is_animated
from fusionframes_core.media.read_video import open_video, read_video
from fusionframes_core.media.video_source import VideoFileError
from fusionframes_core.media.write_video import write_mp4, write_png
from tests.helpers.video_files import (
    LFS_POINTER,
    add_video,
    bars,
    place_of,
    set_display_matrix,
    write_animation,
    write_timed,
)

TIMES = [i / 24 for i in range(48)]
PLACES = list(range(48))


@pytest.mark.parametrize("kind", ["thumbnail", "attached"])
def test_a_cover_is_not_the_video(tmp_path: Path, kind: str) -> None:
    """A thumbnail is a video stream of one picture; an attached picture says what it is."""
    import av
    from av.stream import Disposition

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 32, 32, "yuvj420p"
        if kind == "attached":
            cover.disposition = Disposition.attached_pic
        video = container.add_stream("libx264", rate=24)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8), format="rgb24")))
        container.mux(cover.encode())
        for picture in bars(PLACES):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
    frames, rate = read_video(path)
    assert (frames.shape, rate) == ((48, 48, 64, 3), 24)
    assert place_of(frames[20]) == 20


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = write_timed(tmp_path / "a.mp4", bars([8] * 8), TIMES[:8], sample_aspect_ratio=Fraction(3, 2))
    source = open_video(path)
    assert source.facts.size == (48, 96)
    frames = read_video(path)[0]
    assert frames.shape == (8, 48, 96, 3)
    assert place_of(frames[0]) == pytest.approx(12, abs=1)
    assert read_video(path, size=(24, 48))[0].shape == (8, 24, 48, 3)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_brought_to_bt709(tmp_path: Path, transfer: int) -> None:
    """BT.2020's red has to come out redder than its numbers say, and white has to stay the brightest."""
    colours = np.array([[0, 0, 0], [80, 80, 80], [180, 180, 180], [255, 255, 255], [200, 60, 60]], np.uint8)
    flat = np.broadcast_to(colours[:, None, None], (5, 32, 32, 3)).copy()
    tags = {"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    path = write_timed(tmp_path / "hdr.mp4", flat, TIMES[:5], pix_fmt="yuv420p10le", **tags)
    plain = write_timed(tmp_path / "sdr.mp4", flat, TIMES[:5], pix_fmt="yuv420p10le", colorspace=9, color_range=1)
    hdr, sdr = (read_video(file)[0][:, 16, 16].astype(int) for file in (path, plain))
    assert np.abs(hdr - sdr).max() > 10, "no longer the numbers themselves"
    assert (np.diff(hdr[:4].mean(axis=1)) > 0).all(), "brighter stays brighter"
    assert hdr[3].min() > 200
    assert (hdr[4, 0] - hdr[4, 1]) > (sdr[4, 0] - sdr[4, 1]), "wider primaries: more of the colour"


def test_colours_that_ffmpeg_cannot_turn_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from av.filter import Graph

    def fail(*_: object) -> None:
        raise ValueError("no such option")

    tags = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
    path = write_timed(tmp_path / "hdr.mp4", bars([1] * 4), TIMES[:4], pix_fmt="yuv420p10le", **tags)
    monkeypatch.setattr(Graph, "configure", fail)
    with pytest.raises(VideoFileError, match=r"hdr.mp4' cannot be used: its colours are PQ.*convert it first"):
        read_video(path)


@pytest.mark.parametrize(("matrix", "primaries", "name"), [(8, 1, "YCgCo"), (10, 9, "BT.2020 of constant luminance")])
def test_a_matrix_that_no_ffmpeg_knows_is_refused_at_once(
    tmp_path: Path, matrix: int, primaries: int, name: str
) -> None:
    path = write_timed(tmp_path / "a.mp4", bars([1] * 4), TIMES[:4], colorspace=matrix, color_primaries=primaries)
    with pytest.raises(VideoFileError, match=rf"a.mp4' cannot be used: its colours are {name}, .*; convert") as caught:
        open_video(path)
    assert "later can" not in str(caught.value)


@pytest.mark.parametrize(("lines", "matrix"), [(480, "smpte170m"), (720, "bt709")])
def test_video_that_does_not_say_its_colours(tmp_path: Path, lines: int, matrix: str) -> None:
    """From 720 lines on it is BT.709, as every player has it, below BT.601."""
    import av
    from av.video.reformatter import ColorRange, Colorspace

    codes = {"smpte170m": Colorspace.SMPTE170M, "bt709": Colorspace.ITU709}
    colour = np.broadcast_to(np.array([30, 200, 60], np.uint8), (lines, 64, 3)).copy()
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = lines, 64, "yuv420p"
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(colour, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=codes[matrix], dst_color_range=ColorRange.MPEG
            )
            frame.colorspace, frame.color_range, frame.pts, frame.time_base = 2, 0, index, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == 2
    assert np.abs(read_video(path)[0][0, 100, 32].astype(int) - colour[0, 0]).max() <= 4


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "-a.mp4", "%d.mp4", "frame_%04d.png", "ä ö?.mp4", "file:a.mp4", "a.MP4", "concat:x|y.mp4"]
)
def test_a_name_is_a_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a protocol, an option or a pattern; in the folder itself too."""
    monkeypatch.chdir(tmp_path)
    if name.endswith(".png"):
        write_png(bars([3])[0], name)
    else:
        write_mp4(bars([3] * 4), name, 8)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    for path in (name, tmp_path / name):
        assert place_of(read_video(path)[0][0]) == 3


def test_a_title_that_is_no_utf8(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Film@@@@"
        add_video(container, bars(PLACES), TIMES, "mpeg4", "yuv420p")
    path.write_bytes(path.read_bytes().replace(b"Film@@@@", "Фильмы!!".encode("cp1251")))
    assert len(read_video(path)[0]) == 48


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        *(("a.WMV", "wmv2"), ("a.flv", "flv"), ("a.m2ts", "libx264"), ("a.3gp", "libx264"), ("a.Ts", "mpeg2video")),
        *(("a.mpg", "mpeg2video"), ("a.webm", "libvpx"), ("a.m4v", "libx264"), ("a.ogv", "libtheora")),
    ],
)
def test_suffixes_in_any_case(tmp_path: Path, name: str, codec: str) -> None:
    import av

    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    path = tmp_path / name
    formats = {".m2ts": "mpegts", ".ts": "mpegts"}
    with av.open(str(path), "w", format=formats.get(path.suffix.lower())) as container:
        stream = container.add_stream(codec, rate=24)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in bars(PLACES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert is_video(path)
    frames, rate = read_video(path)
    assert (len(frames), rate) == (48, 24)
    assert read_video_bytes(path) == 48


def read_video_bytes(path: Path) -> int:
    """The number of pictures of the file's bytes, which have no name."""
    return len(list(open_video(BytesIO(path.read_bytes())).frames()))


def test_suffixes_are_one_table_in_lower_case() -> None:
    assert len(set(VIDEO_SUFFIXES)) == len(VIDEO_SUFFIXES)
    assert all(suffix == suffix.lower() for suffix in VIDEO_SUFFIXES)


MIRRORS = {
    "as it is": ((1, 0, 0, 1), lambda picture: picture),
    "turned clockwise": ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    "turned anticlockwise": ((0, -1, 1, 0), np.rot90),
    "upside down": ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "mirrored down": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "mirrored and turned": ((0, 1, 1, 0), lambda picture: picture.swapaxes(0, 1)),
    "mirrored and turned back": ((0, -1, -1, 0), lambda picture: np.rot90(picture, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("how", MIRRORS)
def test_pictures_are_shown_as_the_display_matrix_says(tmp_path: Path, how: str) -> None:
    matrix, shown = MIRRORS[how]
    pictures = np.zeros((4, 48, 64, 3), np.uint8)
    pictures[:, :12, :16], pictures[:, 36:, :8] = 255, 128  # two corners tell every orientation from the others
    path = write_timed(tmp_path / "a.mp4", pictures, [i / 24 for i in range(4)])
    plain = read_video(path)[0]
    source = open_video(set_display_matrix(path, *matrix))
    (first, *_), wanted = source.pictures(), shown(plain[0])
    assert source.facts.size == wanted.shape[:2]
    assert np.array_equal(first, wanted)
    small = next(source.pictures(size=(24, 16)))
    assert small.shape == (24, 16, 3)


def test_a_download_that_went_wrong_is_called_what_it_is(tmp_path: Path) -> None:
    for content, what in ((LFS_POINTER, "a Git LFS pointer"), (b"<!DOCTYPE html><html>", "a web page, not videos")):
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        for source in (path, BytesIO(content)):
            with pytest.raises(VideoFileError, match=f"cannot be read: it is {what}"):
                open_video(source)
    with pytest.raises(VideoFileError, match="a Git LFS pointer"):
        write_png(np.zeros((8, 8, 3), np.uint8), tmp_path / "frames" / "frame_0001.png")
        (tmp_path / "frames" / "frame_0000.png").write_bytes(LFS_POINTER)
        open_video(tmp_path / "frames")


@pytest.mark.parametrize(
    ("names", "numbered"),
    [
        (["frame_0.png", "frame_10.png"], True),
        (["1.PNG", "2.png"], True),
        (["frame_0.png"], False),
        (["frame_0.png", "cover_1.png"], False),
        (["frame_0.png", "frame_1.jpg"], False),
        (["a.png", "b.png"], False),
    ],
)
def test_frames_differ_in_a_number_alone(names: list[str], numbered: bool) -> None:
    assert are_numbered(names) == numbered


def test_what_moves_in_a_picture_file_is_known_by_its_header(tmp_path: Path) -> None:
    for name in ("a.png", "a.webp"):
        assert is_animated(write_animation(tmp_path / name, bars([5, 25]), [100, 100]))
        assert not is_animated(write_animation(tmp_path / f"still_{name}", bars([5]), [100]))
    assert not is_animated(write_timed(tmp_path / "a.mp4", bars([5, 25]), [0, 0.1]))

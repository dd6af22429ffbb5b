"""Videos come back as they went out, at any rate, and never by half."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionframes_core.media.frames import Frames, contact_sheet, enlarge, to_pixels, to_uint8
from fusionframes_core.media.read_video import read_video
from fusionframes_core.media.write_video import check_output, check_side, write_gif, write_mp4, write_png, write_video


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Smooth colours that move, (7, 48, 64, 3)."""
    t, y, x = np.mgrid[0:7, 0:48, 0:64].astype(float)
    channels = [np.sin(x / 19 + t), np.cos(y / 17 - t), np.sin((x + y) / 29)]
    return (np.stack(channels, axis=-1) * 100 + 127).round().astype(np.uint8)


def psnr(a: Frames, b: Frames) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_a_side_that_no_file_of_the_kind_holds_is_refused() -> None:
    check_side(Path("a.mp4"), (512, 512), 32)
    check_side(Path("frames"), (512, 512), 64)
    with pytest.raises(ValueError, match=r"at most 16384 pixels a side in \.mp4; got 256x512 times 33"):
        check_side(Path("a.mp4"), (256, 512), 33)


def test_pixels_round_trip(frames: Frames) -> None:
    pixels = to_pixels(frames)
    assert pixels.shape == (3, 7, 48, 64)
    assert pixels.abs().max() <= 1
    assert np.array_equal(to_uint8(pixels), frames)


def test_pixels_out_of_range_are_clipped() -> None:
    assert to_uint8(torch.tensor([-9.0, 9.0, 0.0]).reshape(3, 1, 1, 1)).tolist() == [[[[0, 255, 128]]]]


@pytest.mark.parametrize("fps", [8.0, Fraction(30000, 1001), 0.5, 29.97])
def test_mp4_comes_back(frames: Frames, tmp_path: Path, fps: float) -> None:
    path = tmp_path / "out.mp4"
    write_mp4(frames, path, fps)
    back, rate = read_video(path)
    assert back.shape == frames.shape
    assert float(rate) == pytest.approx(float(fps), rel=1e-3)
    assert psnr(back, frames) > 35
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_mp4_keeps_the_colours(tmp_path: Path) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 128, 128], [0, 0, 0]], np.uint8)
    flat = np.broadcast_to(colours[:, None, None], (6, 32, 32, 3))
    write_mp4(flat, tmp_path / "flat.mp4", 4)
    back, _ = read_video(tmp_path / "flat.mp4")
    assert np.abs(back[:, 8:-8, 8:-8].astype(int) - flat[:, 8:-8, 8:-8]).max() <= 6


def test_mp4_is_what_players_take(frames: Frames, tmp_path: Path) -> None:
    import av

    write_mp4(frames, tmp_path / "out.mp4", 8)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.duration * stream.time_base) == pytest.approx(7 / 8, abs=0.01)


def test_odd_sizes_are_padded_by_their_edge(frames: Frames, tmp_path: Path) -> None:
    odd = frames[:, :47, :63]
    write_mp4(odd, tmp_path / "odd.mp4", 8)
    back, _ = read_video(tmp_path / "odd.mp4")
    assert back.shape == frames.shape
    assert psnr(back[:, :46, :62], odd[:, :46, :62]) > 33


def test_gif_comes_back(frames: Frames, tmp_path: Path) -> None:
    write_gif(frames, tmp_path / "out.gif", 10)
    back, rate = read_video(tmp_path / "out.gif")
    assert back.shape == frames.shape
    assert float(rate) == pytest.approx(10, rel=0.02)
    assert psnr(back, frames) > 26


def test_frames_are_lossless_and_replace_older_ones(frames: Frames, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "frames"
    write_video(frames, folder, 8)
    (folder / "notes.txt").write_text("mine")
    write_video(frames[:3], folder, 8)
    assert sorted(os.listdir(folder)) == ["frame_0000.png", "frame_0001.png", "frame_0002.png", "notes.txt"]
    assert os.listdir(tmp_path / "new") == ["frames"]
    back, _ = read_video(folder / "frame_0002.png")
    assert np.array_equal(back[0], frames[2])


def test_contact_sheet_holds_every_frame(frames: Frames, tmp_path: Path) -> None:
    sheet = contact_sheet(frames, columns=4, gap=2)
    assert sheet.shape == (2 * 50 + 2, 4 * 66 + 2, 3)
    assert np.array_equal(sheet[52:100, 2 + 66 : 2 + 66 + 64], frames[5])
    assert (sheet[52:100, 200:264] == 255).all()
    write_png(sheet, tmp_path / "sheet.png")
    assert np.array_equal(read_video(tmp_path / "sheet.png")[0][0], sheet)


def test_enlarging_repeats_pixels(frames: Frames) -> None:
    large = enlarge(frames, 3)
    assert large.shape == (7, 144, 192, 3)
    for offset in range(3):
        assert np.array_equal(large[:, offset::3, offset::3], frames)


def test_reading_resizes_and_stops(frames: Frames, tmp_path: Path) -> None:
    write_mp4(frames, tmp_path / "out.mp4", 8)
    back, _ = read_video(tmp_path / "out.mp4", size=(24, 32), max_frames=2)
    assert back.shape == (2, 24, 32, 3)
    assert psnr(back, frames[:2].reshape(2, 24, 2, 32, 2, 3).mean(axis=(2, 4)).round().astype(np.uint8)) > 30


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.avi", "out must end in .mp4 or .gif"),
        ("taken.mp4", "is a folder"),
        ("file", "is a file"),
        ("file/out.mp4", "does not take new files"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "taken.mp4").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=message):
        check_output(tmp_path / name)


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_output(tmp_path / "deep" / "er" / "out.mp4")
    assert os.listdir(tmp_path) == []


def test_what_is_no_video_is_refused(frames: Frames, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    write_mp4(frames, tmp_path / "whole.mp4", 8)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:200])
    for name in ("text.mp4", "cut.mp4", "missing.mp4"):
        with pytest.raises(ValueError, match=name):
            read_video(tmp_path / name)


@pytest.mark.parametrize("fps", [0, 1e-9, -1, float("nan"), float("inf")])
def test_a_failed_write_leaves_nothing(frames: Frames, tmp_path: Path, fps: float) -> None:
    for name in ("out.mp4", "out.gif"):
        with pytest.raises(ValueError, match="fps must be"):
            write_video(frames, tmp_path / name, fps)
    with pytest.raises(ValueError, match="frames must be uint8"):
        write_video(frames[:0], tmp_path / "out.mp4", 8)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_write_keeps_the_older_file(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.mp4"
    write_mp4(frames, path, 8)
    before = path.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fusionframes_core.files.os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_mp4(frames, path, 8)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["out.mp4"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="fills fresh memory by glibc's MALLOC_PERTURB_")
def test_same_frames_same_file(root: Path, tmp_path: Path) -> None:
    """The encoder's output does not depend on what lay in memory before, 64 pixels wide as the tiny model's videos."""
    script = (
        "import numpy as np, sys\n"
        "from fusionframes_core.media.write_video import write_mp4; rng = np.random.default_rng(0);"
        "small = (rng.random((30, 8, 8, 3)) * 255).astype(np.uint8);"
        "write_mp4(small.repeat(8, 1).repeat(8, 2), sys.argv[1], 8.0)"
    )
    files = []
    for fill in ("1", "85", "170"):
        files.append(tmp_path / f"{fill}.mp4")
        environment = {**os.environ, "MALLOC_PERTURB_": fill}
        subprocess.run(
            [sys.executable, "-c", script, str(files[-1])], env=environment, cwd=root, check=True, timeout=120
        )
    assert len({file.read_bytes() for file in files}) == 1

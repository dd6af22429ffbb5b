"""`interpolate` with real videos: as long as the input, with its sound, in windows; what cannot be done is refused."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fusionframes_core.__main__ import main
from fusionframes_core.cli.interpolating import Interpolation
from fusionframes_core.media.frames import to_pixels, to_uint8
from fusionframes_core.media.read_video import read_video
from fusionframes_core.media.write_video import write_mp4, write_video
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.fusionframes_core.cli.test_commands import files, refusal
from tests.helpers.video_files import audio_packets, bars, half_of, loud_from, write_timed, write_with_sound

CPU = torch.device("cpu")
FAST_THEN_SLOW = [*(i / 30 for i in range(8)), *(0.3 + i / 5 for i in range(8))]


@pytest.fixture
def model(micro_folder: Path) -> list[str]:
    return ["--model", str(micro_folder), "--device", "cpu", "--size", "8x16", "--interpolation-steps", "1"]


def length_of(path: Path) -> float:
    frames, rate = read_video(path)
    return len(frames) / float(rate)


def test_a_varying_rate_lasts_as_long(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_timed(tmp_path / "in.mp4", bars([i * 3 for i in range(16)]), FAST_THEN_SLOW)
    assert main(["interpolate", str(source), "--out", str(tmp_path / "out.mp4"), *model]) == 0
    printed = capsys.readouterr().out
    assert "the input's frame rate varies: its frames were taken by time, at " in printed
    rate = float(printed.split("by time, at ")[1].split(" FPS")[0])
    assert length_of(tmp_path / "out.mp4") == pytest.approx(1.9, abs=0.2 + 1 / rate)
    assert main(["interpolate", str(source), "--out", str(tmp_path / "out.mp4"), "--fps", "30", *model]) == 0
    frames, rate_out = read_video(tmp_path / "out.mp4")
    assert rate_out == 120
    assert len(frames) / 120 == pytest.approx(1.9, abs=0.25)


def test_the_sound_stays_in_step(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_with_sound(tmp_path / "in.mp4", bars([9] * 16), 8, beep=1.7), tmp_path / "out.mp4"
    command = ["interpolate", str(source), *model, "--out"]
    assert main([*command, str(out)]) == 0
    assert [packet for _, packet in audio_packets(out)] == [packet for _, packet in audio_packets(source)]
    assert loud_from(out) == pytest.approx(1.7, abs=0.02)
    assert length_of(out) == pytest.approx(2, abs=1 / 8)
    assert main([*command, str(out), "--max-frames", "4"]) == 0
    assert audio_packets(out)[-1][0] == pytest.approx(0.5, abs=0.05)
    for options in (["--no-audio"], []):
        target = tmp_path / ("silent.mp4" if options else "pictures")
        capsys.readouterr()
        assert main([*command, str(target), *options]) == 0
        assert ("the sound is left out: a folder of pictures has none" in capsys.readouterr().out) == (not options)
    with pytest.raises(IndexError):
        audio_packets(tmp_path / "silent.mp4")


def test_a_gif_of_a_high_rate_is_thinned(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mp4(bars([9] * 9), tmp_path / "in.mp4", 30)
    assert main(["interpolate", str(tmp_path / "in.mp4"), "--out", str(tmp_path / "out.gif"), *model]) == 0
    assert "GIF players show at most 50 frames a second: one frame of 3 is written, 40 FPS" in capsys.readouterr().out
    frames, rate = read_video(tmp_path / "out.gif")
    assert len(frames) == 11
    assert float(rate) == pytest.approx(40, rel=0.05)


def test_a_damaged_video_is_refused_or_allowed(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), dtype=np.uint8)
    write_timed(tmp_path / "in.mkv", pictures, [i / 8 for i in range(24)])
    cut = half_of(tmp_path / "in.mkv", "cut.mkv")
    command = ["interpolate", str(cut), "--out", str(tmp_path / "out.mp4"), *model]
    assert "of 24 frames could be read" in refusal(command, tmp_path, capsys)
    assert main([*command, "--allow-damaged"]) == 0
    assert "the input is damaged: " in capsys.readouterr().out
    assert 0.5 < length_of(tmp_path / "out.mp4") < 2.5


def test_a_folder_of_frames_is_interpolated(model: list[str], tmp_path: Path) -> None:
    write_video(bars([9] * 5), tmp_path / "pngs", 8)
    command = ["interpolate", str(tmp_path / "pngs"), "--out", str(tmp_path / "out.mp4"), *model]
    assert main([*command, "--fps", "2"]) == 0
    frames, rate = read_video(tmp_path / "out.mp4")
    assert (len(frames), rate) == (17, 8)


def test_a_folder_with_damaged_frames_is_refused_or_allowed(
    model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(bars([9] * 5), tmp_path / "pngs", 8)
    (tmp_path / "pngs" / "frame_0001.png").write_bytes(b"no picture")
    command = ["interpolate", str(tmp_path / "pngs"), "--out", str(tmp_path / "out.mp4"), *model]
    assert "frame_0001.png' must be a whole" in refusal(command, tmp_path, capsys)
    assert main([*command, "--allow-damaged"]) == 0
    assert "the input is damaged: 4 of 5 frames could be read" in capsys.readouterr().out


def test_within_a_window_nothing_changes_and_beyond_it_given_frames_stay(micro_folder: Path) -> None:
    """One window is the pipeline itself, to the bit; where windows are cut, both hold the latents that were given."""
    pipeline = FusionFramesPipeline.from_pretrained(micro_folder)
    pictures = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    seen: list[torch.Tensor] = []

    def report(stage: str, step: int, total: int, latents: torch.Tensor) -> None:
        seen.append(latents)

    def run(window: int) -> list[Any]:
        options = {"steps": 1, "seed": 3}
        return list(Interpolation(pipeline, None, (1, 1), options, window, report).frames(iter(pictures), 20))

    latents = pipeline.encode(to_pixels(pictures)[None])
    for _ in range(2):
        latents = pipeline.interpolate(latents, steps=1, seed=3, skip_frames=1)
    whole = to_uint8(pipeline.decode(latents)[0])
    assert np.array_equal(np.stack(run(64)), whole)
    windowed = np.stack(run(8))
    assert windowed.shape == whole.shape
    assert np.array_equal(windowed, np.stack(run(8)))
    difference = np.abs(windowed[::16].astype(int) - whole[::16]).mean()
    others = np.abs(np.roll(whole[::16], 1, axis=0).astype(int) - whole[::16]).mean()
    assert difference < others / 4, "every given frame is in its place"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ...")]
)
def test_running_out_of_memory_is_one_sentence(
    error: Exception,
    model: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    write_mp4(bars([9] * 4), tmp_path / "in.mp4", 8)
    monkeypatch.setattr(FusionFramesPipeline, "encode", fail)
    command = ["interpolate", str(tmp_path / "in.mp4"), "--out", str(tmp_path / "out.mp4"), *model]
    assert "out of memory: use a smaller size" in refusal(command, tmp_path, capsys, 1)


@pytest.mark.parametrize(
    ("file", "stage", "command"),
    [
        ("keyframe", "keyframes", "generate"),
        ("interpolation", "interpolation", "generate"),
        ("movq", "decode", "generate"),
        ("movq", "encoding the video", "interpolate"),
        ("interpolation", "interpolation", "interpolate"),
    ],
)
def test_what_is_not_finite_is_said_and_not_written(
    file: str, stage: str, command: str, micro_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(micro_folder, tmp_path / "model"))
    path = folder / f"{file}.safetensors"
    with safe_open(str(path), framework="pt") as opened:
        metadata = opened.metadata()
    weights = {name: torch.full_like(tensor, float("nan")) for name, tensor in load_file(path).items()}
    save_file(weights, path, metadata)
    write_mp4(bars([9] * 4), tmp_path / "in.mp4", 8)
    start = {"interpolate": ["interpolate", str(tmp_path / "in.mp4")], "generate": ["generate", "--prompt", "a circle"]}
    options = ["--model", str(folder), "--device", "cpu", "--out", str(tmp_path / "out.mp4"), "--size", "16x16"]
    said = refusal([*start[command], *options], tmp_path, capsys)
    assert f"error: {stage} gave values that are not finite (NaN or infinity), in float32: " in said


def test_names_up_to_the_file_systems_limit(model: list[str], tmp_path: Path) -> None:
    write_mp4(bars([9] * 4), tmp_path / "in.mp4", 8)
    for name in ("n" * 251 + ".mp4", "é" * 125 + ".gif", "p" * 255):
        assert main(["interpolate", str(tmp_path / "in.mp4"), "--out", str(tmp_path / name), *model]) == 0
        assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "must name a file or folder; got ''"), ("x" * 252 + ".mp4", "File name too long"), ("a\0b.mp4", "must name")],
)
def test_names_that_cannot_be_written_are_found_before_the_work(
    name: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    micro_folder: Path,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(FusionFramesPipeline, "from_pretrained", load)
    monkeypatch.chdir(tmp_path)
    for out in {name, f"new/{name}" if name else ""}:
        command = ["generate", "--model", str(micro_folder), "--prompt", "x", "--out", out]
        assert message in refusal(command, tmp_path, capsys)


def test_a_tilde_is_the_home_folder(
    model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_mp4(bars([9] * 4), tmp_path / "in.mp4", 8)
    (tmp_path / "m").symlink_to(model[1])
    assert main(["interpolate", "~/in.mp4", "--out=~/sub/out.mp4", *model[2:], "--model", "~/m"]) == 0
    assert "sub/out.mp4" in files(tmp_path)
    capsys.readouterr()
    for rate in ("0", "-1", "nan", "x", "1/0", "1e9"):
        said = refusal(["interpolate", "~/in.mp4", "--out", "~/o.mp4", f"--fps={rate}"], tmp_path, capsys)
        assert "fps must be a number above 0, at most 1000" in said


def test_rates_may_be_fractions(model: list[str], tmp_path: Path) -> None:
    write_mp4(bars([9] * 8), tmp_path / "in.mp4", 30)
    out = tmp_path / "out.mp4"
    assert main(["interpolate", str(tmp_path / "in.mp4"), "--out", str(out), "--fps", "15000/1001", *model]) == 0
    assert read_video(out)[1] == Fraction(60000, 1001)

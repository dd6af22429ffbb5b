"""`generate` with guides and a video to change, and both commands to a frame rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fusionframes_core.__main__ import main
from fusionframes_core.cli.arguments import parse_guide
from fusionframes_core.cli.beginning import check_beginning  # noqa: F401  # what the commands below go through
from fusionframes_core.media.frames import to_pixels, to_uint8
from fusionframes_core.media.read_sound import read_sound
from fusionframes_core.media.read_video import read_video
from fusionframes_core.media.write_video import write_mp4, write_png
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.fusionframes_core.cli.test_commands import refusal
from tests.helpers.video_clips import write_changing_size
from tests.helpers.video_files import bars, half_of, write_timed, write_with_sound

PROMPT = "a large red circle moving left"


@pytest.fixture
def generate(micro_folder: Path, tmp_path: Path) -> list[str]:
    """A complete command; the last value of an option counts."""
    out = str(tmp_path / "out.mp4")
    return ["generate", "--model", str(micro_folder), "--prompt", PROMPT, "--device", "cpu", "--out", out]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two seconds at 8 a second."""
    path = tmp_path / "in.mp4"
    write_mp4(bars([2 * i for i in range(16)]), path, 8)
    return path


def test_generate_with_guides(generate: list[str], micro_folder: Path, tmp_path: Path) -> None:
    """As the pipeline with the same guides, scaled and cropped to the video."""
    picture = bars([20])[0]
    write_png(picture, tmp_path / "a.png")
    write_png(picture[:, ::-1], tmp_path / "b.png")
    guides = ["--guide", f"{tmp_path / 'a.png'}@0", "--guide", f"{tmp_path / 'b.png'}@-1=0.5", "--pull", "0.3"]
    assert main([*generate, "--seed", "3", *guides, "--out", str(tmp_path / "frames")]) == 0
    pipeline = FusionFramesPipeline.from_pretrained(micro_folder)
    pixels = [to_pixels(frame[None])[:, 0] for frame in (picture, picture[:, ::-1])]
    given = [pipeline.guide(pixels[0], 0, pull=0.3), pipeline.guide(pixels[1], -1, 0.5, 0.3)]
    expected = pipeline(PROMPT, seed=3, guides=given)
    assert (expected.keyframe_latents[:, :, :1] - given[0].latent).abs().max() < 1e-6
    frames, _ = read_video(tmp_path / "frames")
    assert np.abs(frames.astype(int) - to_uint8(expected.frames[0])).max() <= 1


def test_generate_from_a_video(generate: list[str], video: Path, tmp_path: Path) -> None:
    """Frames are taken at the keyframes' rate: two seconds are four of them, whatever the model's own number."""
    assert main([*generate, "--video", str(video), "--denoise", "0.3", "--steps", "3", "--passes", "0"]) == 0
    near, rate = read_video(tmp_path / "out.mp4")
    assert (len(near), rate) == (4, 2)
    assert main([*generate, "--video", str(video), "--frames", "2", "--denoise", "0.9", "--passes", "0"]) == 0
    assert len(read_video(tmp_path / "out.mp4")[0]) == 2


def test_a_video_is_read_before_the_work(
    generate: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of one that is shorter than what is asked for; of a longer one no more than is taken."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 64, 3), dtype=np.uint8)
    cut = half_of(write_timed(tmp_path / "in.mkv", noise, [i / 8 for i in range(48)], "ffv1"), "cut.mkv")
    changing = write_changing_size(tmp_path / "a.ts")
    assert main([*generate, "--video", str(cut), "--frames", "2", "--denoise", "0.5", "--passes", "0"]) == 0
    (tmp_path / "out.mp4").unlink()
    capsys.readouterr()
    monkeypatch.setattr(FusionFramesPipeline, "from_pretrained", load)
    for path, sentence in ((cut, "of 48 frames could be read"), (changing, "changes size at frame")):
        command = [*generate, "--video", str(path), "--frames", "20", "--denoise", "0.5"]
        assert sentence in refusal(command, tmp_path, capsys)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--denoise", "0.5"], "denoise must be 1 where no video is given; got 0.5"),
        (["--guide", "nothing.png@0"], "no video at 'nothing.png': the file does not exist"),
        (["--guide", "a.png"], "guide must be FILE@KEYFRAME, such as first.png@0 or last.png@-1=0.8; got 'a.png'"),
        (["--guide", "{video}@9"], "index of a guide must be from 0 to 3, or from -4 to -1"),
        (["--guide", "{video}@0", "--guide", "{video}@-4"], "{video}@0 and {video}@-4 are both keyframe 0 of 4"),
        (["--guide", "{video}@0=2"], "strength of a guide must be from 0 to 1; got 2.0"),
        (["--guide", "{video}@0", "--pull", "-1"], "pull of a guide must be from 0 to 1; got -1.0"),
        (["--video", "nothing.mp4", "--denoise", "0.5"], "no video at 'nothing.mp4'"),
        (["--multiplier", "17"], "multiplier must be from 0.001 to 16 times the frame rate; got 17.0"),
        (["--multiplier", "1e-9"], "multiplier must be from 0.001 to 16 times the frame rate; got 1e-09"),
        (["--target-fps", "100"], "target_fps must be from 0.001 to 16 times the 2 frames per second"),
        (["--target-fps", "1e-9"], "target_fps must be from 0.001 to 16 times the 2 frames per second"),
        (["--target-fps", "24", "--multiplier", "3"], "target_fps must be left out with multiplier; got 24.0"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    generate: list[str],
    video: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    given = [option.replace("{video}", str(video)) for option in options]
    assert sentence.replace("{video}", str(video)) in refusal([*generate, *given], tmp_path, capsys)


def test_generate_to_a_rate(generate: list[str], tmp_path: Path) -> None:
    """4 keyframes at 2 a second are 3 intervals: at 24 a second 37 frames; ×3 makes 10."""
    sheet = tmp_path / "sheet.png"
    assert main([*generate, "--target-fps", "24", "--contact-sheet", str(sheet)]) == 0
    frames, rate = read_video(tmp_path / "out.mp4")
    assert (len(frames), rate) == (37, 24)
    assert sheet.is_file()
    assert main([*generate, "--multiplier", "3"]) == 0
    frames, rate = read_video(tmp_path / "out.mp4")
    assert (len(frames), rate) == (10, 6)


def test_interpolate_to_a_rate(micro_folder: Path, tmp_path: Path) -> None:
    """As long as the input, with its sound; the given frames stay in their places in time."""
    model = ["--model", str(micro_folder), "--device", "cpu", "--size", "16x16", "--interpolation-steps", "1"]
    source = write_with_sound(tmp_path / "in.mp4", bars([9] * 9), 8, beep=0.5)
    out = tmp_path / "out.mp4"
    counts = {}
    for name, options in {
        "24": ["--target-fps", "24"],
        "60": ["--target-fps", "60"],
        "x2": ["--multiplier", "2"],
        "x3": ["--multiplier", "3", "--passes", "2"],
    }.items():
        assert main(["interpolate", str(source), "--out", str(out), *options, *model]) == 0
        frames, rate = read_video(out)
        counts[name] = (len(frames), float(rate))
        assert read_sound(out) is not None
    assert counts == {"24": (25, 24), "60": (61, 60), "x2": (17, 16), "x3": (25, 24)}


def test_guides_on_the_command_line() -> None:
    assert parse_guide("a@b.png@0") == ("a@b.png", 0, 1.0)
    assert parse_guide("c.png@-1=0.8") == ("c.png", -1, 0.8)

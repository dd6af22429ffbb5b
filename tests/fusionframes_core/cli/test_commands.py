"""The command line makes files, and answers bad input with one sentence, exit code 2 and nothing on the disk."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionframes_core.__main__ import main
from fusionframes_core.cli.arguments import parse_lora
from fusionframes_core.media.frames import contact_sheet, enlarge, to_uint8
from fusionframes_core.media.read_video import read_video
from fusionframes_core.media.write_video import write_mp4
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.fusionframes_core.checkpoints.test_lora import RING, write_lora

PROMPT = "a large red circle moving left"


@pytest.fixture
def generate(micro_folder: Path, tmp_path: Path) -> list[str]:
    """A complete command, to which a test adds; the last value of an option counts."""
    out = str(tmp_path / "out" / "video.mp4")
    return ["generate", "--model", str(micro_folder), "--prompt", PROMPT, "--device", "cpu", "--out", out]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refusal(command: list[str], folder: Path, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """Run a command that must fail; its one sentence."""
    before = files(folder)
    try:
        answer = main(command)
    except SystemExit as exit_:
        answer = exit_.code
    written = capsys.readouterr()
    assert answer == code
    assert written.out == ""
    assert written.err.startswith("error: ")
    assert written.err.count("\n") == 1
    assert "Traceback" not in written.err
    assert files(folder) == before
    return written.err


def test_generate_writes_what_the_pipeline_makes(
    generate: list[str], micro_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    options = ["--seed", "3", "--scale", "4", "--guidance", "2", "--contact-sheet", str(sheet)]
    assert main([*generate, *options]) == 0
    assert "13 frames, 64x64, 8 FPS, seed 3" in capsys.readouterr().out
    frames, rate = read_video(tmp_path / "out" / "video.mp4")
    expected = FusionFramesPipeline.from_pretrained(micro_folder)(PROMPT, seed=3, guidance=2.0)
    expected_frames = enlarge(to_uint8(expected.frames[0]), 4)
    assert frames.shape == expected_frames.shape == (13, 64, 64, 3)
    assert float(rate) == 8
    assert np.abs(frames.astype(int) - expected_frames).mean() < 6
    keyframes = contact_sheet(expected_frames[::4])
    assert np.array_equal(read_video(sheet)[0][0], keyframes)
    assert files(tmp_path) == ["out/video.mp4", "sheet.png"]


def test_every_setting_reaches_the_pipeline(
    generate: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}
    call = FusionFramesPipeline.__call__

    def record(self: FusionFramesPipeline, prompt: str, settings: object, **named: object) -> object:
        seen.update(vars(settings))
        return call(self, prompt, settings, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(FusionFramesPipeline, "__call__", record)
    given = {
        "negative_prompt": ("blue", "blue"),
        "seed": ("9", 9),
        "passes": ("1", 1),
        "skip_frames": ("5,2", (5, 2)),
        "perturbation": ("10", 10),
        "guidance": ("2.5", 2.5),
        "interpolation_guidance": ("0.5", 0.5),
        "steps": ("2", 2),
        "interpolation_steps": ("1", 1),
        "sampler": ("dpmpp_2m", "dpmpp_2m"),
        "size": ("8x24", (8, 24)),
    }
    options = [part for name, (text, _) in given.items() for part in ("--" + name.replace("_", "-"), text)]
    frames = tmp_path / "frames"
    assert main([*generate, *options, "--keyframes", "3", "--out", str(frames), "--dtype", "bf16"]) == 0
    assert {name: seen[name] for name in given} == {name: value for name, (_, value) in given.items()}
    assert seen["num_frames"] == 3
    assert files(frames) == [f"frame_{index:04d}.png" for index in range(9)]
    assert read_video(frames / "frame_0008.png")[0].shape == (1, 8, 24, 3)


def test_interpolate_quadruples_the_frame_rate(
    micro_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.gif"
    frames = np.random.default_rng(0).integers(0, 256, (3, 20, 28, 3), dtype=np.uint8)
    write_mp4(frames, source, 2.5)
    model = ["--model", str(micro_folder), "--device", "cpu"]
    assert main(["interpolate", str(source), "--out", str(out), *model]) == 0
    assert "9 frames, 16x32, 10 FPS" in capsys.readouterr().out
    back, rate = read_video(out)
    assert back.shape == (9, 16, 32, 3)
    assert float(rate) == 10
    assert main(["interpolate", str(source), "--out", str(out), "--passes", "2", "--size", "8x8", *model]) == 0
    assert read_video(out)[0].shape == (33, 8, 8, 3)


def test_inspect_names_the_models(micro_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(micro_folder)]) == 0
    text = capsys.readouterr().out
    for kind in ("text encoder", "keyframe U-Net", "interpolation U-Net", "MoVQ autoencoder"):
        assert kind in text
    assert main(["inspect", str(micro_folder / "movq.safetensors")]) == 0


def test_prompts_of_any_length(generate: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for prompt in ("", "red " * 2000):
        assert main([*generate, "--passes", "0", "--prompt", prompt]) == 0
    warning = capsys.readouterr().err
    assert warning.startswith("warning: the prompt has 2001 tokens")
    assert warning.count("\n") == 1


BAD = [
    (["--size", "12x16"], "size must be height and width in pixels, both multiples of 8; got 12x16"),
    (["--size", "large"], "size must be HEIGHTxWIDTH"),
    (["--keyframes", "1"], "num_frames must be at least 2 for interpolation"),
    (["--steps", "0"], "steps must be a whole number from 1 to 1000; got 0"),
    (["--steps", "many"], "invalid int value: 'many'"),
    (["--guidance", "nan"], "guidance must be a finite number of at least 0; got nan"),
    (["--seed", "-1"], "seed must be a whole number"),
    (["--passes", "3"], "passes must be a whole number from 0 to 2; got 3"),
    (["--skip-frames", "3,x"], "must be whole numbers separated by commas"),
    (["--perturbation", "999"], "perturbation must be a whole number from 0 to 250; got 999"),
    (["--sampler", "euler"], "sampler must be one of ddpm, ddim, dpmpp_2m; got 'euler'"),
    (["--motion", "high"], "motion must be left out"),
    (["--dtype", "int4"], "argument --dtype"),
    (["--device", "abacus"], "device must be one that torch can use"),
    (["--device", "meta"], "device must be one that torch can use"),
    (["--scale", "0"], "scale must be a whole number from 1 to 64; got 0"),
    (["--model", "nowhere"], "model must be 'tiny' or a folder with a config.json; got 'nowhere'"),
    (["--colour", "red"], "unrecognized arguments: --colour"),
    (["--contact-sheet", "sheet.jpg"], "contact-sheet must be a .png file"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_options_are_refused_before_any_work(
    generate: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(FusionFramesPipeline, "from_pretrained", load)
    assert message in refusal([*generate, *options], tmp_path, capsys)


@pytest.mark.parametrize("name", ["out.avi", "taken.mp4", "file/out.mp4"])
def test_outputs_that_cannot_be_written_are_refused(
    generate: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "taken.mp4").mkdir()
    (tmp_path / "file").write_text("")
    assert name in refusal([*generate, "--out", str(tmp_path / name)], tmp_path, capsys)


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign", "text"])
def test_a_broken_checkpoint_is_refused(
    generate: list[str], micro_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    model = Path(shutil.copytree(micro_folder, tmp_path / "model"))
    weights = model / "interpolation.safetensors"
    if damage == "missing":
        weights.unlink()
    elif damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "foreign":
        shutil.copy(model / "movq.safetensors", weights)
    else:
        weights.write_text("not weights at all")
    assert "interpolation.safetensors" in refusal([*generate, "--model", str(model)], tmp_path, capsys)
    if damage != "foreign":
        refusal(["inspect", str(weights)], tmp_path, capsys)


def test_videos_that_cannot_be_interpolated_are_refused(
    micro_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    write_mp4(np.zeros((1, 16, 16, 3), np.uint8), tmp_path / "one.mp4", 2)
    end = ["--out", str(tmp_path / "out.mp4"), "--model", str(micro_folder), "--device", "cpu"]
    for name, message in (("none.mp4", "does not exist"), ("text.mp4", "whole video"), ("one.mp4", "at least 2")):
        assert message in refusal(["interpolate", str(tmp_path / name), *end], tmp_path, capsys)
    command = ["interpolate", str(tmp_path / "one.mp4"), *end, "--passes", "0"]
    assert "passes must be a whole number from 1 to 2; got 0" in refusal(command, tmp_path, capsys)


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left"), 1), (torch.OutOfMemoryError("x"), 1)]
)
def test_what_goes_wrong_while_writing_leaves_nothing(
    generate: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("fusionframes_core.files.os.replace", fail)
    refusal([*generate, "--steps", "1", "--passes", "0"], tmp_path, capsys, code)


def test_it_runs_as_a_program(root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "fusionframes_core"]
    for command, code in ((["--help"], 0), (["generate", "--out", "x.mp4"], 2), (["inspect", str(tmp_path)], 2)):
        answer = subprocess.run(
            [*program, *command], cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert answer.returncode == code
        assert "Traceback" not in answer.stderr
        assert ("error: " in answer.stderr) == bool(code)


def test_generate_takes_loras_and_temporal_blocks(
    generate: list[str], micro_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the options say is what from_pretrained does with it; without temporal blocks there is no motion model."""
    lora = tmp_path / "lora.safetensors"
    write_lora(micro_folder, lora, "keyframe")
    frames = tmp_path / "frames"
    options = ["--lora", f"{lora}=0.1", "--temporal-blocks", "none", "--seed", "3", "--out", str(frames)]
    assert main([*generate, *options]) == 0
    pipeline = FusionFramesPipeline.from_pretrained(micro_folder, temporal_blocks="none", loras={lora: 0.1})
    assert pipeline.config.keyframe.temporal == "none"
    wanted = to_uint8(pipeline(PROMPT, seed=3).frames[0])
    found = np.concatenate([read_video(path)[0] for path in sorted(frames.iterdir())])
    assert np.array_equal(found, wanted)
    capsys.readouterr()
    other = refusal(
        [
            "interpolate",
            str(next(frames.iterdir())),
            "--out",
            "x.mp4",
            "--model",
            str(micro_folder),
            "--lora",
            str(lora),
        ],
        tmp_path,
        capsys,
    )
    assert "lora must be of the interpolation U-Net here" in other
    assert f"no LoRA of {pipeline.config.name}" in refusal([*generate, "--lora", str(RING)], tmp_path, capsys)
    assert "got 1000" in refusal([*generate, "--lora", f"{lora}=1000"], tmp_path, capsys)
    missing = refusal([*generate, "--temporal-blocks", "conv1d_attn3d_blocks"], tmp_path, capsys)
    assert "temporal_conv1d_attn3d_blocks.safetensors" in missing


def test_a_name_with_an_equals_sign_is_a_name() -> None:
    assert parse_lora("a=b.safetensors") == ("a=b.safetensors", 1.0)
    assert parse_lora("a=b.safetensors=-0.5") == ("a=b.safetensors", -0.5)
    assert parse_lora("ring.safetensors") == ("ring.safetensors", 1.0)

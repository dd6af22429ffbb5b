"""The command line with official files: convert, inspect, generate."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionframes_core.__main__ import main
from fusionframes_core.checkpoints.weights_file import open_weights
from fusionframes_core.media.read_video import read_video
from fusionframes_core.media.write_video import write_png

RED = np.full((30, 40, 3), (255, 0, 0), np.uint8)
QUICK = ["--keyframes", "3", "--passes", "1", "--steps", "1", "--interpolation-steps", "1", "--size", "16x16"]


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("must not exist",)


def test_convert_says_what_it_made(official: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = official["1.0"][1] / "kandinsky_video.pt", tmp_path / "k.safetensors"
    assert main(["convert", str(source), str(out), "--dtype", "bf16"]) == 0
    file = open_weights(out)
    assert {entry.dtype for entry in file.entries.values()} == {torch.bfloat16}
    assert f"KandinskyVideo 1.0 keyframe U-Net, {len(file.entries)} tensors" in capsys.readouterr().out
    assert main(["inspect", str(out)]) == 0
    assert capsys.readouterr().out.startswith("k.safetensors: keyframe U-Net, ")


def test_convert_refuses_in_one_sentence_and_writes_nothing(
    official: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, evil, wan = official["1.0"][1] / "movq.pt", tmp_path / "evil.pt", tmp_path / "wan.pt"
    torch.save({"unet": Bomb()}, evil)
    torch.save({f"blocks.0.{name}.weight": torch.zeros(2, 2) for name in ("self_attn.q", "cross_attn.k")}, wan)
    before = sorted(path.name for path in tmp_path.iterdir())
    cases = {
        "could run code": [str(evil), str(tmp_path / "x.safetensors")],
        "is a Wan model, but": [str(wan), str(tmp_path / "x.safetensors")],
        "must be a .safetensors or .pt file": [str(good), str(tmp_path / "x.npz")],
        "must be another file than the input": [str(good), str(good)],
        "does not exist": [str(tmp_path / "none.pt"), str(tmp_path / "x.safetensors")],
    }
    for sentence, arguments in cases.items():
        assert main(["convert", *arguments]) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not Path("must not exist").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_that_finds_no_room_is_one_sentence(
    official: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """A limit on the size of files stands for a full disk: writing ends at the same place."""
    resource = pytest.importorskip("resource", reason="files are limited by resource, which Windows does not have")
    source, out = official["1.0"][1] / "kandinsky_video.pt", tmp_path / f"k{suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (source.stat().st_size // 2, hard))
    try:
        code = main(["convert", str(source), str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = capsys.readouterr().err
    assert code == 1
    assert said.startswith(f"error: cannot write '{out}': ")
    assert "File too large" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_generate_from_a_folder_of_official_files(
    official: dict, tmp_path: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "out.mp4", official[version][1]
    extra = ["--offload", "disk", "--text-mode", "layers", "--device", "cpu"]
    if version == "1.1":
        write_png(RED, tmp_path / "first.png")
        extra += ["--image", str(tmp_path / "first.png"), "--motion", "extreme"]
    command = ["generate", "--model", str(folder), "--prompt", "a red circle", "--out", str(out), *QUICK, *extra]
    assert main(command) == 0, capsys.readouterr().err
    frames, _ = read_video(out)
    assert frames.shape == (9, 16, 16, 3)


def test_an_image_for_a_model_that_takes_none_is_refused(
    official: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(RED, tmp_path / "first.png")
    command = ["generate", "--model", str(official["1.0"][1]), "--prompt", "x", "--out", str(tmp_path / "o.mp4")]
    assert main([*command, "--image", str(tmp_path / "first.png")]) == 2
    assert "image must be left out: kandinsky-video-1.0 does not start from an image" in capsys.readouterr().err

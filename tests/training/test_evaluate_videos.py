"""The commands that generate and measure folders of videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusionframes_core.video import read_video
from tests.training.clips import moving, write
from training.evaluate import main
from training.evaluate_report import figures_of


class Channels(nn.Module):
    """Stands for I3D and for a classifier: a few numbers of the video."""

    def forward(
        self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> torch.Tensor:
        return torch.cat([x.mean(dim=(2, 3, 4)), x[:, :, :, :, :10].mean(dim=(2, 3, 4))], dim=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    for index in range(4):
        frames = moving(18, seed=index)
        write(root / "real" / f"{index}.mp4", frames)
        write(root / "fake" / f"{index}.mp4", np.clip(frames.astype(int) + 12, 0, 255).astype(np.uint8))
    torch.jit.script(Channels()).save(str(root / "network.pt"))
    return root


def run(arguments: list[object], path: Path) -> dict:
    assert main([*map(str, arguments), "--json", str(path)]) == 0
    return json.loads(path.read_text("utf-8"))


def test_fvd_is_zero_for_equal_folders_and_grows(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--i3d", folders / "network.pt", "--batch", "3"]
    same = run(["fvd", "--real", folders / "real", "--fake", folders / "real", *options], tmp_path / "same.json")
    other = run(["fvd", "--real", folders / "real", "--fake", folders / "fake", *options], tmp_path / "other.json")
    assert same["figures"]["fvd"] == pytest.approx(0, abs=1e-3)
    assert other["figures"]["fvd"] > 100, "12 levels in six features"
    assert other["videos"] == {"real": 4, "fake": 4}
    assert other["frames"] == 16
    printed = capsys.readouterr().err
    assert "a program that runs with your rights" in printed
    assert "the protocol has 2048" in printed


def test_inception_quality_and_motion(folders: Path, tmp_path: Path) -> None:
    options = ["--classifier", folders / "network.pt", "--splits", "1", "--input-size", "16"]
    score = run(["inception", "--fake", folders / "real", *options], tmp_path / "is.json")
    assert 1 <= score["figures"]["inception_score"] <= 6
    pairs = run(["quality", "--real", folders / "real", "--fake", folders / "fake"], tmp_path / "quality.json")
    assert pairs["figures"]["psnr"] == pytest.approx(20 * np.log10(255 / 12), abs=1.0)
    assert pairs["figures"]["mse"] == pytest.approx((12 / 255) ** 2, rel=0.2)
    assert pairs["figures"]["flicker"] < 1, "a constant error does not flicker"
    motion = run(["motion", "--fake", folders / "real", "--videos", "2"], tmp_path / "motion.json")
    assert motion["videos"] == 2
    assert motion["figures"]["change"] > 0


def test_reports_side_by_side(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("real", "fake"):
        run(["motion", "--fake", folders / name], tmp_path / f"{name}.json")
    files = [str(tmp_path / f"{name}.json") for name in ("real", "fake")]
    outputs = ["--markdown", str(tmp_path / "table.md"), "--plot", str(tmp_path / "plot.png")]
    assert main(["report", *files, *outputs]) == 0
    table = (tmp_path / "table.md").read_text("utf-8")
    assert table.startswith("|  | real | fake |\n")
    assert len(table.splitlines()) == 2 + 4
    assert table in capsys.readouterr().out
    assert read_png(tmp_path / "plot.png").std() > 10, "something is drawn"
    (tmp_path / "bad.json").write_text("[]")
    assert main(["report", str(tmp_path / "bad.json")]) == 2
    assert "must be a report of training.evaluate" in capsys.readouterr().err
    nested = {"pass 1": {"fast": {"psnr": {"a": 1}, "by_motion": {"x": 2}}}, "clips": 3, "reached": {"yes": True}}
    assert figures_of(nested) == {"pass 1/fast/psnr/a": 1.0}


def read_png(path: Path) -> np.ndarray:
    import cv2

    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


@pytest.mark.slow
def test_generation_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a large red circle moving left\na small blue star, spinning\na white square\n")
    command = ["generate", "--prompts", str(prompts), "--passes", "0", "--steps", "2", "--seed", "3", "--threads", "1"]
    assert main([*command, "--videos", str(tmp_path / "one"), "--batch", "1"]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "training.evaluate"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    two = [*launch, *command, "--videos", str(tmp_path / "two"), "--batch", "1"]
    answer = subprocess.run(two, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["00000.mp4", "00001.mp4", "00002.mp4", "captions.jsonl"]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    for name in names[:3]:
        one, other = (read_video(tmp_path / folder / name)[0] for folder in ("one", "two"))
        assert np.array_equal(one, other), name
    before = (tmp_path / "one" / "00001.mp4").stat().st_mtime_ns
    assert main([*command, "--videos", str(tmp_path / "one"), "--batch", "3"]) == 0
    assert (tmp_path / "one" / "00001.mp4").stat().st_mtime_ns == before, "what is there is not made again"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["fvd", "--real", "{}/real", "--fake", "{}", "--i3d", "{}/network.pt"], "must hold videos"),
        (["fvd", "--real", "{}/real", "--fake", "{}/fake", "--i3d", "{}/none.pt"], "no TorchScript file"),
        (["motion", "--fake", "{}/real", "--frames", "40"], "must have at least 40 frames; it has 18"),
        (["clipsim", "--fake", "{}/real", "--clip", "{}"], "no CLIP in"),
        (["quality", "--real", "{}/real", "--fake", "{}/fake", "--lpips", "{}/none.pth"], "no network weights"),
        (["generate", "--prompts", "{}/none.txt", "--videos", "{}/out"], "no prompts at"),
        (["reconstruction", "--data", "{}/real"], "holds no finished data set"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], words: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([option.format(folders) for option in options]) == 2
    _, _, error = capsys.readouterr().err.partition("error: ")
    assert words in error
    assert error.count("\n") == 1, "one sentence, nothing after it"

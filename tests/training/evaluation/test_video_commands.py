"""The commands that generate and measure folders of videos."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusionframes_core.checkpoints.open_model import model_folder
from fusionframes_core.media.read_video import read_video
from tests.helpers.video_clips import moving, write
from training.evaluate import main
from training.evaluation.reports import chosen, figures_of, read_reports


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
    assert main(["report", *files, "--only", "change"]) == 0
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.strip().splitlines()[2:]] == ["| change"]
    assert main(["report", *files, "--only", "chang"]) == 2
    assert "--only must name figures of the reports" in capsys.readouterr().err
    (tmp_path / "bad.json").write_text("[]")
    assert main(["report", str(tmp_path / "bad.json")]) == 2
    assert "must be a report of training.evaluate" in capsys.readouterr().err
    nested = {"pass 1": {"fast": {"psnr": {"a": 1}, "by_motion": {"x": 2}}}, "clips": 3, "reached": {"yes": True}}
    assert figures_of(nested) == {"pass 1/fast/psnr/a": 1.0}
    assert chosen(["a/b/c", "a/c", "ab/c/d"], ["a", "b/c"]) == ["a/b/c", "a/c"]


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
    assert names == ["00000.mp4", "00001.mp4", "00002.mp4", "captions.jsonl", "settings.json"]
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == names
    for name in names[:3]:
        one, other = (read_video(tmp_path / folder / name)[0] for folder in ("one", "two"))
        assert np.array_equal(one, other), name
    before = (tmp_path / "one" / "00001.mp4").stat().st_mtime_ns
    assert main([*command, "--videos", str(tmp_path / "one"), "--batch", "3"]) == 0
    assert (tmp_path / "one" / "00001.mp4").stat().st_mtime_ns == before, "what is there is not made again"


PROMPTS = ("a large red circle moving left", "a small blue star, spinning", "a white square")


def write_prompts(path: Path, prompts: Sequence[str]) -> Path:
    path.write_text("\n".join(prompts) + "\n")
    return path


def generating(prompts: Path, videos: Path, *options: str) -> list[str]:
    """The shortest run of `generate`, with `options` in the place of its own."""
    chosen = {
        "--passes": "0",
        "--steps": "1",
        "--seed": "3",
        "--batch": "1",
        **dict(zip(options[::2], options[1::2], strict=True)),
    }
    listed = [word for option in chosen.items() for word in option]
    return ["generate", "--prompts", str(prompts), "--videos", str(videos), *listed]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, and their prompts beside the folder."""
    root = tmp_path_factory.mktemp("generated")
    assert main(generating(write_prompts(root / "prompts.txt", PROMPTS[:2]), root / "videos")) == 0
    return root


@pytest.mark.parametrize(
    ("options", "prompts", "words"),
    [
        (["--seed", "4"], PROMPTS[:2], "seed 3, not 4"),
        (["--steps", "2"], PROMPTS[:2], "steps 1, not 2"),
        (["--sampler", "ddim"], PROMPTS[:2], "sampler None, not 'ddim'"),
        (["--guidance", "0"], PROMPTS[:2], "guidance "),
        (["--passes", "1"], PROMPTS[:2], "passes 0, not 1"),
        (["--model", "{model}"], PROMPTS[:2], "model 'tiny', not "),
        ([], PROMPTS[1:], "other or more prompts"),
        ([], [PROMPTS[1], PROMPTS[0], PROMPTS[2]], "other or more prompts"),
        (["--limit", "1"], PROMPTS[:2], "other or more prompts"),
    ],
)
def test_videos_of_other_settings_are_not_taken_for_these(
    options: list[str],
    prompts: Sequence[str],
    words: str,
    generated: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = generated / "videos"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    filled = [option.format(model=model_folder("tiny")) for option in options]
    assert main(generating(write_prompts(tmp_path / "prompts.txt", prompts), folder, *filled)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder} was generated with {words}")
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "nothing is touched"


def test_generation_goes_on_and_may_get_more_prompts(generated: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(generated / "videos", videos)
    (videos / "00001.mp4").unlink()
    stamp = (videos / "00000.mp4").stat().st_mtime_ns
    prompts = write_prompts(tmp_path / "prompts.txt", PROMPTS)
    for _ in range(2):
        assert main(generating(prompts, videos)) == 0
        assert (videos / "00000.mp4").stat().st_mtime_ns == stamp, "what is there is not made again"
    one, other = (read_video(folder / "00001.mp4")[0] for folder in (videos, generated / "videos"))
    assert np.array_equal(one, other)
    captions = [json.loads(line)["caption"] for line in (videos / "captions.jsonl").read_text().splitlines()]
    assert captions == json.loads((videos / "settings.json").read_text())["prompts"] == list(PROMPTS)
    assert main(generating(write_prompts(tmp_path / "fewer.txt", PROMPTS[:2]), videos)) == 2, "captions would be lost"


def test_videos_without_settings_are_not_gone_on_with(
    generated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "00001.mp4", moving(2))
    assert main(generating(generated / "prompts.txt", tmp_path)) == 2
    assert "holds 00001.mp4 but no settings.json: choose another folder" in capsys.readouterr().err
    (tmp_path / "settings.json").write_text('{"half')
    assert main(generating(generated / "prompts.txt", tmp_path)) == 2
    assert "settings.json must be a JSON object" in capsys.readouterr().err


def test_generate_has_no_report(generated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*generating(generated / "prompts.txt", generated / "videos"), "--json", "a.json"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --json" in capsys.readouterr().err


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


def test_videos_that_are_the_same_give_a_report_that_is_json(folders: Path, tmp_path: Path) -> None:
    """Their PSNR is infinite, which JSON cannot say."""
    same, report = str(folders / "real"), tmp_path / "report.json"
    assert main(["quality", "--real", same, "--fake", same, "--frames", "4", "--json", str(report)]) == 0
    content = json.loads(report.read_text(), parse_constant=pytest.fail)
    assert content["figures"]["psnr"] is None
    assert content["figures"]["ssim"] == pytest.approx(1, abs=1e-4)
    assert content["not_finite"] == {"psnr": "inf"}


def test_what_is_passed_over_is_told(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folders / "real", tmp_path / "videos")
    (tmp_path / "videos" / "._0.mp4").write_bytes(b"")
    (tmp_path / "videos" / "old.rmvb").write_bytes(b"")
    shutil.copytree(folders / "real", tmp_path / "videos" / "more")
    assert main(["motion", "--fake", str(tmp_path / "videos"), "--frames", "4", "--videos", "1"]) == 0
    told = capsys.readouterr().err
    assert "note: 6 passed over in" in told
    assert "old.rmvb (not a known video suffix)" in told


def test_reports_of_one_name_are_both_shown(tmp_path: Path) -> None:
    """One folder for each run is the usual way."""
    for run, psnr in (("a", 20.0), ("b", 30.0)):
        (tmp_path / run).mkdir()
        (tmp_path / run / "quality.json").write_text(json.dumps({"psnr": psnr}))
    (tmp_path / "other.json").write_text(json.dumps({"psnr": 25.0}))
    paths = [tmp_path / "a" / "quality.json", tmp_path / "b" / "quality.json", tmp_path / "other.json"]
    found = read_reports(paths)
    assert [name.split("/")[-2:] for name in found][:2] == [["a", "quality"], ["b", "quality"]]
    assert [figures["psnr"] for figures in found.values()] == [20, 30, 25]
    assert list(found)[2] == "other"

"""Wrong config files, options and values: one sentence each, and nothing is written."""

from __future__ import annotations

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from fusionframes_core.checkpoints.open_model import BUNDLED
from tests.helpers.toy_trainer import train
from tests.helpers.video_files import LFS_POINTER
from training import assemble, latents, train_keyframes
from training.engine import stage_command
from training.engine.run_settings import TrainSettings
from training.engine.stage_command import parse, run_command, run_stage
from training.engine.trainer import STOPPED

CONFIGS = Path(train_keyframes.__file__).parent / "configs"
TINY = BUNDLED["tiny"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0; got 0.0"),
        ({"clip_norm": -1.0}, "clip_norm must be greater than 0; got -1.0"),
        ({"ema_decay": 2.0}, "ema_decay must be at least 0 and less than 1; got 2.0"),
        ({"loader_threads": -1}, "loader_threads must be at least 0; got -1"),
        ({"warmup_steps": -5}, "warmup_steps must be at least 0; got -5"),
        ({"learning_rate": 1e400}, "learning_rate must be greater than 0 and finite; got inf"),
        ({"learning_rate": float("nan")}, "learning_rate must be greater than 0; got nan"),
        ({"seed": 2**70}, f"seed must be from 0 to 4000000000; got {2**70}"),
        ({"seed": -1}, "seed must be from 0 to 4000000000; got -1"),
        *(
            ({name: float("inf")}, f"{name} must be ")
            for name in ("weight_decay", "clip_norm", "explosion", "peak_tflops", "ema_decay")
        ),
        *(
            ({"betas": betas}, "betas must be two numbers, each at least 0 and less than 1; got ")
            for betas in ((2, float("nan")), (0.9, 1.0), (-0.1, 0.9), (0.9, float("inf")), (0.9,))
        ),
    ],
)
def test_settings_out_of_range(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        TrainSettings(**{"output": tmp_path, "steps": 10, "batch_size": 4, "learning_rate": 0.01, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.stps": 3}, "unknown key train.stps: did you mean train.steps?"),
        ({"widht": 3}, "unknown key widht: did you mean width?"),
        ({"steps": 3}, "unknown key steps: did you mean train.steps?"),
        ({"train.steps": "many"}, "train.steps has the wrong type"),
        ({"train.steps": 0}, "steps must be at least 1; got 0"),
        ({"train.betas": [1, 2, 3]}, "train.betas has the wrong type: it must be a list of two; got [1, 2, 3]"),
        ({"train.shard": "half"}, "shard must be one of none, optimizer, full; got 'half'"),
        ({"train.trackers": ["no_such_tracker"]}, "trackers names no_such_tracker, which is not installed"),
    ],
)
def test_bad_config_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    """A misspelt key names the nearest, a wrong value says what is allowed; nothing is written."""
    config: dict[str, Any] = {
        "train": {"output": str(tmp_path / "run"), "steps": 2, "batch_size": 2, "learning_rate": 0.1}
    }
    for key, value in change.items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    with pytest.raises(SystemExit) as caught:
        run_command(train, ["--config", str(tmp_path / "config.yaml")])
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trian.steps", "3"], "unknown key trian.steps: did you mean train.steps?"),
        (["--widht=3"], "unknown key widht: did you mean width?"),
        (["--steps", "3"], "unknown key steps: did you mean train.steps?"),
        (["--config", "not_there.yaml"], "config must name a file; there is none at "),
        (["--config", str(Path(__file__))], "config must name a YAML file; "),
    ],
)
def test_bad_options_are_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run_command(train, arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_missing_argument_and_broken_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("width: 3", "train: {output: x", "train: [1]"):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(SystemExit):
            run_command(train, ["--config", str(tmp_path / "config.yaml")])
        assert capsys.readouterr().err.count("\n") == 1


def stage(
    train: TrainSettings, image: Path | None = None, clips: list[Path] | None = None, names: list[str] | None = None
) -> None:
    """A stage that may not be reached.

    Args:
        train: the run.
        image: a file.
        clips: files.
        names: words.
    """
    raise ArithmeticError("reached")


RUN = ["--train.output=run", "--train.steps=1", "--train.batch_size=1", "--train.learning_rate=0.1"]


@pytest.mark.parametrize(
    ("arguments", "clips"),
    [
        (["--clips", "a"], ["a"]),
        (["--clips=a"], ["a"]),
        (["--clips", "a", "b c"], ["a", "b c"]),
        (["--clips", "a", "--names", "x", "y"], ["a"]),
        (["--clips", '["a", "b"]'], ["a", "b"]),
        (['--clips=["a"]'], ["a"]),
        (["--clips+", "a", "--clips+", "b"], ["a", "b"]),
        (["--clips+=a"], ["a"]),
        (["--clips", "a", "--clips", "b", "--clips=c"], ["a", "b", "c"]),
        (["--clips", "ünï", "🎬/x"], ["ünï", "🎬/x"]),
        (["--train.trackers", "x", "y", "--clips", "a"], ["a"]),
    ],
)
def test_several_values_can_be_given_plainly(arguments: list[str], clips: list[str]) -> None:
    assert parse(stage, [*arguments, *RUN])["clips"] == [Path(name) for name in clips]
    assert parse(stage, [*RUN, *arguments])["clips"] == [Path(name) for name in clips]


def test_options_of_the_run_may_be_lists_too() -> None:
    assert parse(stage, ["--train.trackers", "x", "y", *RUN])["train"].trackers == ["x", "y"]


def test_a_list_of_the_configs_can_be_switched_off(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("clips: [old]\n")
    assert parse(stage, ["--config", str(config), "--clips", "null", *RUN])["clips"] is None
    assert parse(stage, ["--config", str(config), "--clips=null", *RUN])["clips"] is None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("clips: a", "clips has the wrong type: it must be a list of paths such as [a, b] or null; got a"),
        ("names: [5]", "names has the wrong type: it must be a list of texts such as [a, b] or null; got [5]"),
        ("image: [a]", "image has the wrong type: it must be a path or null; got ['a']"),
    ],
)
def test_another_type_says_what_is_wanted(tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "config.yaml").write_text(written)
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        parse(stage, ["--config", str(tmp_path / "config.yaml"), *RUN])


def test_a_list_and_a_word_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nrecognized|unknown key"):
        parse(stage, ["--clips", "[a]", "b", *RUN])


def test_an_option_takes_the_place_of_the_config(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("clips: [old]\nnames: [one]\n")
    found = parse(stage, ["--config", str(config), "--clips", "new", *RUN])
    assert (found["clips"], found["names"]) == ([Path("new")], ["one"])
    assert parse(stage, ["--config", str(config), "--clips+", "new", *RUN])["clips"] == [Path("old"), Path("new")]


@pytest.mark.parametrize("option", ["--image", "--clips"])
def test_inputs_are_looked_for_before_anything_is_built(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        run_command(stage, [option, str(tmp_path / "not_there"), *RUN])
    name = option.removeprefix("--")
    told = f"error: {name} must name what is there; there is nothing at {tmp_path / 'not_there'}"
    error = capsys.readouterr().err
    assert error.startswith(told)
    assert error.count("\n") == 1
    assert ("training.latents" in error) == (name == "clips")
    with pytest.raises(SystemExit):
        run_command(stage, [option, str(tmp_path), *RUN])
    assert capsys.readouterr().err == "error: reached\n"


def test_the_papers_config_without_its_files_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """At once: its U-Net has 4 billion parameters."""
    with pytest.raises(SystemExit):
        run_stage(train_keyframes.KeyframeStage, ["--config", str(CONFIGS / "paper_keyframes.yaml")])
    assert re.match(r"error: \w+ must name what is there; there is nothing at ", capsys.readouterr().err)


def test_what_a_command_writes_need_not_be_there(tmp_path: Path) -> None:
    """Clips are drawn and encoded by the command, to a folder that it makes."""
    output = tmp_path / "new" / "clips.safetensors"
    run_command(latents.prepare, ["--movq", str(TINY / "movq.safetensors"), "--count", "1", "--output", str(output)])
    assert output.is_file()
    folder = tmp_path / "model"
    parts = [f"--{name}={TINY / name}.safetensors" for name in ("text_encoder", "keyframe", "interpolation", "movq")]
    run_command(assemble.assemble, [*parts, "--output", str(folder)])
    assert (folder / "config.json").is_file()


def test_the_home_folder_in_options_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "config.yaml").write_text(
        "train:\n  output: ~/run\n  steps: 2\n  batch_size: 2\n  learning_rate: 0.1\n"
    )
    parsed = parse(
        train_keyframes.KeyframeStage, ["--config=~/config.yaml", "--data", "~/a", "~/b", "--preset=~/model"]
    )
    assert parsed["train"].output == tmp_path / "run"
    assert parsed["data"] == [tmp_path / "a", tmp_path / "b"]
    assert parsed["preset"] == str(tmp_path / "model")
    parsed = parse(stage, [*RUN, "--train.output=~", "--clips", "~", "~nobody-is-called-so/a"])
    assert parsed["train"].output == tmp_path
    assert parsed["clips"] == [tmp_path, Path("~nobody-is-called-so/a")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no ~name")
def test_somebodys_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    me = pwd.getpwuid(os.getuid())
    monkeypatch.setenv("HOME", "/not/mine")
    assert parse(stage, [*RUN, f"--train.output=~{me.pw_name}/run"])["train"].output == Path(me.pw_dir) / "run"


def test_a_configuration_that_is_a_pointer_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(LFS_POINTER)
    for given in (["--config", str(tmp_path / "config.yaml")], [f"--config={tmp_path / 'config.yaml'}"]):
        with pytest.raises(ValueError, match=r"config must name a YAML file; .*config.yaml is a Git LFS pointer"):
            parse(train_keyframes.KeyframeStage, given)


def test_no_stays_a_word_in_yaml(tmp_path: Path) -> None:
    """YAML takes `no` for false."""
    (tmp_path / "config.yaml").write_text(
        "train:\n  output: run\n  steps: 2\n  batch_size: 2\n  learning_rate: 0.1\n  mixed_precision: no\n"
    )
    parsed = parse(train_keyframes.KeyframeStage, ["--config", str(tmp_path / "config.yaml")])
    assert parsed["train"].mixed_precision == "no"


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_leaves_its_process_group(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it was told to stop: threads of a group that is left to the interpreter's end may abort it."""
    left: list[bool] = []
    monkeypatch.setattr(stage_command, "leave_processes", lambda: left.append(True))

    def stage() -> None:
        """Stop or end."""
        if stopped:
            raise SystemExit(STOPPED)

    with pytest.raises(SystemExit) if stopped else nullcontext():
        run_command(stage, [])
    assert left == [True]

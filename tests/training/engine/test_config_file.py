"""The file after `--config`: what is none is named, with the reason, before anything is parsed."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from training.engine.config_file import check_config_file
from training.engine.stage_command import parse
from training.moving_shapes.clips import check_drawn
from training.objectives.adapters import AdapterSettings
from training.train_lora import LoraStage

RUN = "train: {output: run, steps: 1, batch_size: 1, learning_rate: 0.1}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# a comment\n", "is empty"),
        (b"- train\n", "holds something else"),
        (b"5", "holds something else"),
        (codecs.BOM_UTF16_LE + RUN.encode("utf-16-le"), "is in another encoding"),
        ((RUN + "model: дом\n").encode("cp1251"), "is in another encoding"),
        (RUN.encode("utf-16-le"), "is none: "),
        (b"model: tiny\ntrain: {a b", "is none: expected ',' or '}', but got '<stream end>' (line 2)"),
        (f"{RUN}rank: 1\nmodel: tiny\nrank: 2\n".encode(), "line 4, has rank a second time"),
        (b"train:\n  steps: 1\n  output: a\n  steps: 2\n", "line 4, has steps a second time"),
        (b'{"rank": 1, "rank": 1}', "line 1, has rank a second time"),
    ],
)
def test_what_is_no_settings_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^config must name "):
        check_config_file(path)
    for given in (["--config", str(path)], [f"--config={path}"]):
        with pytest.raises(ValueError, match=r"^config must name ") as told:
            parse(LoraStage, given)
        assert words in str(told.value)
        assert str(path) in str(told.value)


def test_settings_as_people_save_them(tmp_path: Path) -> None:
    """With a byte order mark, other letters, and anchors, which mention a node several times."""
    path = tmp_path / "config.yaml"
    path.write_text(f"\ufeff{RUN}targets: &names [дом]\nmodel: tiny\n", "utf-8")
    assert parse(LoraStage, ["--config", str(path)])["targets"] == ["дом"]


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1e400"])
@pytest.mark.parametrize("name", ["alpha", "dropout", "high_share", "still_weight"])
def test_numbers_of_a_stage_are_finite(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{RUN}{name}: {value}\n")
    with pytest.raises(ValueError, match=f"^{name} must be a finite number; got "):
        parse(LoraStage, ["--config", str(path)])


@pytest.mark.parametrize("count", [0, -3])
def test_no_clips_are_refused_before_anything_loads(tmp_path: Path, count: int) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{RUN}model: not_there\nshape: ring\ncount: {count}\n")
    with pytest.raises(ValueError, match=f"count must be at least 1; got {count}"):
        LoraStage(**parse(LoraStage, ["--config", str(path)])).run()
    with pytest.raises(ValueError, match="seed must be at least 0; got -1"):
        check_drawn(1, -1)


def test_alpha_is_finite() -> None:
    with pytest.raises(ValueError, match="alpha must be greater than 0 and finite; got inf"):
        AdapterSettings(4, float("inf"))

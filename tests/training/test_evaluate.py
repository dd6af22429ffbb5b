"""The command line of the evaluations, on the smallest untrained model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusionframes_core.checkpoints.component import ModelParts, build
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from fusionframes_core.presets import PRESETS, TINY
from training.evaluate import main
from training.evaluation.evaluated_models import load_movq
from training.moving_shapes.prompts_file import make_prompts, read_prompts
from training.moving_shapes.shapes_tokenizer import build_tokenizer

# Groups of two channels at the lowest resolution would make the sign of rounding errors visible.
SMALL = {"model_channels": 16, "init_channels": 16, "time_embed_dim": 32, "context_dim": 16, "groups": 1, "head_dim": 8}
SHAPES = ["shapes", "--limit", "3", "--batch", "2", "--steps", "1"]


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    """The tiny preset's choices at the smallest sizes: 16 keyframes of 16 × 16 pixels, factor 4."""
    return replace(
        TINY,
        text=replace(TINY.text, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, context_dim=16),
        keyframe=replace(TINY.keyframe, **SMALL),
        interpolation=replace(TINY.interpolation, trunk=replace(TINY.interpolation.trunk, **SMALL)),
        interpolation_schedule=replace(TINY.interpolation_schedule, steps=1),
        movq=replace(TINY.movq, channels=8, channel_mult=(1, 2), attention_levels=(1,), groups=4),
        size=(16, 16),
    )


@pytest.fixture(scope="module")
def folder(config: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of random weights."""
    folder = tmp_path_factory.mktemp("model")
    build_tokenizer().save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = TextEncoder(config.text, load_tokenizer(folder))
        models = [build(part) for part in (config.keyframe, config.interpolation, config.movq)]
    for parameter in (parameter for model in models for parameter in model.parameters() if parameter.numel() == 1):
        torch.nn.init.constant_(parameter, 0.3)  # merge weights: no temporal layer is silent
    save_model_folder(ModelParts(config, encoder, *models), folder, dtype=torch.float32)
    return folder


def report_of(arguments: list[str], path: Path) -> dict:
    assert main([*arguments, "--json", str(path)]) == 0
    assert list(path.parent.glob(f"*{path.stem}*")) == [path], "nothing but the report is left"
    return json.loads(path.read_text("utf-8"))


def test_shapes_generates_measures_and_reports(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*SHAPES, "--model", str(folder)]
    report = report_of([*arguments, "--save", str(tmp_path / "pictures")], tmp_path / "a.json")
    assert report["count"] == len(report["rows"]) == 3
    assert [row["prompt"] for row in report["rows"]] == [prompt.prompt for prompt in make_prompts()[:3]]
    assert report["settings"]["steps"] == 1
    assert report["settings"]["guidance"] == TINY.guidance
    assert sorted(file.name for file in (tmp_path / "pictures").iterdir()) == ["0000.png", "0001.png", "0002.png"]
    assert "all three" in capsys.readouterr().out
    again = report_of([*arguments, "--batch", "3"], tmp_path / "b.json")
    assert [row["shown"] for row in again["rows"]] == [row["shown"] for row in report["rows"]]


def test_interpolation_and_decoder_report(folder: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(folder), "--clips", "9", "--limit", "1"]
    interpolation = report_of(["interpolation", *arguments], tmp_path / "interpolation.json")
    assert interpolation["clips"] == 1
    assert set(interpolation["pass 2"]["slow"]["psnr"]) >= {"interpolation", "linear latents", "ceiling"}
    decoder = report_of(["decoder", *arguments], tmp_path / "decoder.json")
    assert set(decoder["latents"]["interpolated"]) == {"temporal", "image"}


def test_weights_of_runs_take_the_place_of_the_models(
    folder: Path, config: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run's image autoencoder decodes frame by frame: its "temporal" decoder is the image decoder.
    image = build(replace(config.movq, decoder="image"))
    save_weights(image.state_dict(), tmp_path / "image.safetensors", dtype=torch.float32)
    arguments = ["decoder", "--clips", "1", "--only-true", "--movq", str(tmp_path / "image.safetensors")]
    # No other file of the model has to exist yet.
    monkeypatch.setitem(PRESETS, "smallest", config)
    figures = report_of([*arguments, "--model", "smallest"], tmp_path / "decoder.json")["latents"]["true"]
    assert figures["temporal"] == pytest.approx(figures["image"], rel=1e-4)
    arguments += ["--image-movq", str(tmp_path / "image.safetensors"), "--model", str(folder)]
    figures = report_of(arguments, tmp_path / "decoder.json")["latents"]["true"]
    assert set(figures) == {"temporal", "image", "temporal layers skipped"}
    assert figures["image"] == pytest.approx(figures["temporal layers skipped"], rel=1e-4)


def test_a_video_autoencoder_is_loaded_as_it_is(folder: Path, config: ModelConfig) -> None:
    movq = load_movq(folder / "movq.safetensors", config.movq)
    latents = torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(movq.decode(latents), movq.decode(latents, temporal=False), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shapes", "--prompts", "nowhere.txt"], "--prompts must be a readable text file; got nowhere.txt"),
        (["shapes", "--limit", "0"], "--limit must be at least 1; got 0"),
        (["shapes", "--batch", "-1"], "--batch must be at least 1; got -1"),
        (["decoder", "--device", "gpu"], "--device must be one of cpu"),
        (["shapes", "--device", "cuda:99"], "--device must be one of cpu"),
        (["shapes", "--seed", "-1"], "--seed must be at least 0; got -1"),
        (["shapes", "--model", "nowhere"], "model must be 'tiny' or a folder with a config.json; got 'nowhere'"),
        (["shapes", "--model", "nowhere", "--movq", "x"], "--model must be one of tiny"),
        (["shapes", "--guidance", "nan"], "guidance must be a finite number of at least 0; got nan"),
        (["shapes", "--steps", "0"], "steps must be a whole number from 1 to 1000; got 0"),
        (["interpolation", "--guidance", "nan"], "interpolation_guidance must be a finite number"),
        (["decoder", "--only-true", "--movq", "nowhere.safetensors"], "no weights at nowhere.safetensors"),
        (["interpolation", "--json", "."], "--json must name a file; . is a folder"),
        (["interpolation", "--clips", "0"], "--clips must be at least 1; got 0"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not {"--model", "--movq"} & set(arguments):
        arguments = [*arguments, "--model", str(folder)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_an_unknown_option_ends_with_exit_code_2() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["shapes", "--prompt", "x"])
    assert stop.value.code == 2


def test_prompts_are_made_at_the_command_line(tmp_path: Path) -> None:
    assert main(["make-prompts", "--count", "9", "--seed", "4", "--out", str(tmp_path / "p.jsonl")]) == 0
    assert read_prompts(tmp_path / "p.jsonl") == make_prompts(9, seed=4)
    assert [file.name for file in tmp_path.iterdir()] == ["p.jsonl"]

"""The runs' weights, put together, are a model that the pipeline loads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fusionframes_core import presets
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.errors import CheckpointError
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.models.tokenizer import load_tokenizer
from training.assemble import assemble
from training.moving_shapes.shapes_tokenizer import build_tokenizer

SMALL = {"model_channels": 16, "init_channels": 16, "time_embed_dim": 16, "context_dim": 16, "groups": 4, "head_dim": 8}


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    """A preset of the tiny model's kind, smaller."""
    tiny = presets.TINY
    small = replace(
        tiny,
        name="smallest",
        text=replace(tiny.text, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, context_dim=16),
        keyframe=replace(tiny.keyframe, **SMALL),
        interpolation=replace(tiny.interpolation, trunk=replace(tiny.interpolation.trunk, **SMALL)),
        movq=replace(tiny.movq, channels=8, groups=4),
    )
    monkeypatch.setitem(presets.PRESETS, "smallest", small)
    return small


@pytest.fixture
def runs(config: ModelConfig, tmp_path: Path) -> dict[str, Path]:
    """What the stages write: float32 weights, and a tokenizer beside the text encoder."""
    folder = tmp_path / "runs"
    folder.mkdir()
    build_tokenizer().save(str(folder / "tokenizer.json"))
    models = {
        "text_encoder": TextEncoder(config.text, load_tokenizer(folder / "tokenizer.json")),
        "keyframe": build(config.keyframe),
        "interpolation": build(config.interpolation),
        "movq": build(config.movq),
    }
    files = {}
    for name, model in models.items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        files[name] = folder / f"{name}.safetensors"
        save_weights(model.state_dict(), files[name], dtype=torch.float32)
    return files


def test_the_folder_holds_the_runs_weights_in_16_bits(
    runs: dict[str, Path], config: ModelConfig, tmp_path: Path
) -> None:
    assemble(tmp_path / "model", **runs, preset="smallest")
    parts = open_model(tmp_path / "model").load()
    assert parts.config == config
    expected = build(config.keyframe)
    expected.load_state_dict(load_file(runs["keyframe"]))
    for name, value in expected.state_dict().items():
        assert torch.equal(parts.keyframe.state_dict()[name], value.half().float()), name
    assert parts.text_encoder.encode(["a red circle"]).context.shape[-1] == config.text.context_dim


def test_weights_of_another_model_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copy(runs["movq"], runs["interpolation"])
    with pytest.raises(CheckpointError, match=r"interpolation\.safetensors"):
        assemble(tmp_path / "model", **runs, preset="smallest")
    assert not (tmp_path / "model").exists()

"""Weights come back exactly, strictly, and a file that cannot be loaded is refused in one sentence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusionframes_core.checkpoints.component import COMPONENTS, build
from fusionframes_core.checkpoints.inspect import inspect_file, inspect_path
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.checkpoints.open_model import load_weights, open_model
from fusionframes_core.checkpoints.state_dict import save_weights
from fusionframes_core.config import ModelConfig
from fusionframes_core.errors import CheckpointError
from fusionframes_core.files import atomic_path


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))


def refusal(model: nn.Module, path: Path) -> CheckpointError:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    return caught.value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, None])
def test_weights_come_back(model: nn.Module, tmp_path: Path, dtype: torch.dtype | None) -> None:
    save_weights(model.state_dict(), tmp_path / "w.safetensors", dtype)
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    load_weights(other, tmp_path / "w.safetensors")
    for key, tensor in model.state_dict().items():
        assert other.state_dict()[key].dtype == torch.float32
        assert torch.equal(other.state_dict()[key], tensor.to(dtype or torch.float32).float())
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_model_without_memory_takes_the_file(micro_config: ModelConfig, micro_folder: Path) -> None:
    empty = build(micro_config.keyframe, device="meta")
    load_weights(empty, micro_folder / "keyframe.safetensors", dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in empty.state_dict().values()} == {torch.bfloat16}
    assert not any(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))


def test_loading_into_a_model_does_not_tie_it_to_the_file(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(model.state_dict(), path, None)
    load_weights(model, path)
    before = path.read_bytes()
    with torch.no_grad():
        model[0].weight.add_(1)
    assert path.read_bytes() == before
    assert model[0].weight.requires_grad


def test_every_key_that_does_not_fit_is_named(model: nn.Module, tmp_path: Path) -> None:
    state = {"0.weight": torch.zeros(9, 9), "0.bias": torch.zeros(4), "head.weight": torch.zeros(1)}
    save_file(state, tmp_path / "w.safetensors")
    error = refusal(model, tmp_path / "w.safetensors")
    assert error.missing == ("1.weight",)
    assert error.unexpected == ("head.weight",)
    assert error.mismatched == ("0.weight",)
    for part in ("1.weight", "head.weight", "0.weight is (9, 9), not (4, 3)", "w.safetensors", "Sequential"):
        assert part in str(error)


def test_a_foreign_file_is_refused_without_a_page_of_keys(micro_config: ModelConfig, micro_folder: Path) -> None:
    error = refusal(build(micro_config.movq), micro_folder / "keyframe.safetensors")
    assert len(error.unexpected) > 100
    assert len(str(error)) < 1000


def test_files_that_are_not_whole_are_refused(model: nn.Module, tmp_path: Path) -> None:
    save_weights(model.state_dict(), tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    cases = {"cut": data[:-5], "stub": data[:4], "empty": b"", "text": b"hello world " * 99, "zip": b"PK\x03\x04" * 99}
    for name, content in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        assert str(path) in str(refusal(model, path))
    assert "does not exist" in str(refusal(model, tmp_path / "nothing.safetensors"))
    assert "does not exist" in str(refusal(model, tmp_path))


def test_a_weight_that_overflows_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"big overflows in torch\.float16"):
        save_weights({"big": torch.tensor([1e6])}, tmp_path / "w.safetensors")
    assert os.listdir(tmp_path) == []


def test_an_interrupted_save_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_text("old")

    def save() -> None:
        with atomic_path(path) as partial:
            partial.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["w.bin"]


def test_a_model_folder_round_trips(micro_folder: Path, tmp_path: Path) -> None:
    parts = open_model(micro_folder).load()
    save_model_folder(parts, tmp_path / "again", dtype=None)
    again = open_model(tmp_path / "again").load()
    assert again.config == parts.config
    for name in COMPONENTS:
        ours, theirs = getattr(parts, name).state_dict(), getattr(again, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert not getattr(again, name).training
        assert not any(p.requires_grad for p in getattr(again, name).parameters())
    prompts = ["a large red circle moving left"]
    ours, theirs = parts.text_encoder.encode(prompts), again.text_encoder.encode(prompts)
    assert torch.equal(ours.context, theirs.context)


def test_half_precision_keeps_the_text_encoder_in_range(micro_folder: Path) -> None:
    parts = open_model(micro_folder).load(torch.float16)
    assert next(parts.keyframe.parameters()).dtype == torch.float16
    assert next(parts.text_encoder.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("file", ["keyframe.safetensors", "tokenizer.json"])
def test_a_folder_without_one_of_its_files_is_refused(micro_folder: Path, tmp_path: Path, file: str) -> None:
    folder = Path(shutil.copytree(micro_folder, tmp_path / "m"))
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        open_model(folder).load()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": 1}', "nonsense"])
def test_a_config_that_is_none_is_refused(micro_folder: Path, tmp_path: Path, content: str) -> None:
    folder = Path(shutil.copytree(micro_folder, tmp_path / "m"))
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json is not the configuration"):
        open_model(folder).load()


def test_a_name_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model must be 'tiny' or a folder with a config\.json; got 'huge'"):
        open_model("huge").load()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_model(tmp_path).load()


def test_inspection_tells_the_models_apart(micro_folder: Path) -> None:
    kinds = {name: inspect_file(micro_folder / f"{name}.safetensors").kind for name in COMPONENTS}
    assert kinds == {
        "text_encoder": "text encoder",
        "keyframe": "keyframe U-Net",
        "interpolation": "interpolation U-Net",
        "movq": "MoVQ autoencoder",
    }
    summary = inspect_file(micro_folder / "movq.safetensors")
    parts = open_model(micro_folder).load()
    assert summary.num_parameters == sum(p.numel() for p in parts.movq.parameters())
    assert summary.dtypes == {"F32": summary.num_parameters}
    assert inspect_path(micro_folder).startswith("micro: 4 keyframes at 2 FPS, 16x16")

"""What stands before a model's names does not matter; of several models in a file the averaged one is taken."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fusionframes_core.checkpoints.checkpoint_info import identify
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.inspect import inspect_file
from fusionframes_core.checkpoints.model_search import find_models, is_averaged, preferred
from fusionframes_core.checkpoints.official_folder import open_official_folder
from fusionframes_core.checkpoints.open_model import load_config, load_weights, open_component, open_model
from fusionframes_core.checkpoints.weights_file import open_weights
from fusionframes_core.errors import CheckpointError
from tests.helpers.official_cases import same_weights

PREFIXES = ("module.", "_orig_mod.", "model.", "ema.", "net.", "vae.", "unet._orig_mod.", "module.unet.", "student.")
PARTS = ("keyframe", "interpolation", "movq", "text_encoder")


def behind(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


@pytest.fixture
def folder(micro_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(micro_folder, tmp_path / "model"))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_component_is_read_behind_any_prefix(folder: Path, prefix: str) -> None:
    """In its place in a folder, alone, and by name."""
    parts = open_model(folder).load()
    for part in PARTS:
        path = folder / f"{part}.safetensors"
        kind = inspect_file(path).kind
        save_file(behind(prefix, load_file(path)), path)
        assert inspect_file(path).kind == kind
    again = open_model(folder).load()
    for part in PARTS:
        assert same_weights(getattr(again, part), getattr(parts, part))
    assert open_component(folder / "movq.safetensors").kind.name == "movq"
    null = open_model(folder).components["keyframe"].null_embedding()
    assert torch.equal(null, parts.text_encoder.null_embedding)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_official_files_are_read_inside_a_training_programs_dictionary(
    official: dict, tmp_path: Path, version: str
) -> None:
    """The text's parts, which stand beside the U-Net, come along."""
    parts, source = official[version]
    folder = Path(shutil.copytree(source, tmp_path / version))
    for path in folder.glob("*.pt"):
        torch.save({"module": torch.load(path, weights_only=True), "step": 3}, path)
    again = open_official_folder(folder).load()
    for part in PARTS:
        assert same_weights(getattr(again, part), getattr(parts, part)), part


@pytest.mark.parametrize(
    ("wrap", "taken"),
    [
        (lambda one, other: {"model": one, "step": 3}, 1),
        (lambda one, other: {"module": one}, 1),
        (lambda one, other: {"state_dict": one, "epoch": 3, "optimizer": {"state": {0: {"avg": other["x"]}}}}, 1),
        (lambda one, other: {"model": one, "ema": other}, 2),
        (lambda one, other: {"state_dict": one, "ema_state_dict": other}, 2),
        (lambda one, other: {"model": one, "model_ema": {"module": other, "decay": torch.ones(())}}, 2),
        (lambda one, other: {"n_averaged": torch.ones(()), **behind("module.", one)}, 1),
        (lambda one, other: behind("model.", one) | behind("ema.", other), 2),
        (lambda one, other: {**one, **behind("ema.", other)}, 2),
    ],
)
def test_of_two_models_the_averaged_one_is_taken_and_said(
    micro_folder: Path, tmp_path: Path, wrap: Any, taken: int
) -> None:
    one = load_file(micro_folder / "movq.safetensors")
    other = {name: value + 1 for name, value in one.items()}
    torch.save(wrap(one, {**other, "x": torch.ones(3)} if taken == 1 else other), tmp_path / "w.pt")
    movq = build(load_config(micro_folder).movq)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load_weights(movq, tmp_path / "w.pt")
    name = "decoder.conv_in.weight"
    assert torch.equal(movq.state_dict()[name], (one if taken == 1 else other)[name])
    assert [bool("averaged weights" in str(warning.message)) for warning in said] == [True] * (taken - 1)


def test_models_that_cannot_be_told_apart_are_refused_by_name(micro_folder: Path, folder: Path) -> None:
    one = load_file(micro_folder / "movq.safetensors")
    for wrapped in (behind("generator.", one) | behind("teacher.", one), behind("ema_1.", one) | behind("a.ema.", one)):
        places = ", ".join(sorted({f"{name.split('.decoder.')[0]}.*" for name in wrapped if ".decoder." in name}))
        save_file({name: value.clone() for name, value in wrapped.items()}, folder / "movq.safetensors")
        for action in (lambda: open_model(folder), lambda: open_component(folder / "movq.safetensors")):
            with pytest.raises(CheckpointError, match=r"movq\.safetensors is a file of several models \(") as caught:
                action()
            assert places in str(caught.value)


def test_a_file_in_the_place_of_another_component_is_named(folder: Path) -> None:
    for wrong, right in (("keyframe", "movq"), ("movq", "text_encoder"), ("interpolation", "keyframe")):
        kept = (folder / f"{right}.safetensors").read_bytes()
        shutil.copy(folder / f"{wrong}.safetensors", folder / f"{right}.safetensors")
        with pytest.raises(CheckpointError, match=rf"{right}\.safetensors is an? .* but an? .* was expected"):
            open_model(folder)
        (folder / f"{right}.safetensors").write_bytes(kept)


def test_a_unet_is_what_a_file_is_where_others_lie_beside_it(micro_folder: Path) -> None:
    """A whole checkpoint of a host's."""
    keyframe, movq = (open_weights(micro_folder / f"{part}.safetensors").shapes for part in ("keyframe", "movq"))
    names = {f"model.diffusion_model.{n}": s for n, s in keyframe.items()} | {f"vae.{n}": s for n, s in movq.items()}
    assert identify(names).kind == "keyframe"
    assert find_models(names) == {"model.diffusion_model.": "keyframe"}


def test_the_text_encoder_of_another_model_does_not_make_it_ours() -> None:
    t5 = {"te.shared.weight": (8, 8), "te.encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}
    assert identify(t5).kind == "t5"
    assert identify({**t5, "model.joint_blocks.0.x": (8, 8)}).title == "Stable Diffusion 3 model"


def test_averaged_weights_are_told_by_their_name() -> None:
    assert all(map(is_averaged, ("ema.", "model_ema.module.", "EMA.", "averaged.", "swa_model.")))
    assert not any(map(is_averaged, ("schema.", "model.", "emai.", "")))
    assert preferred({"a.": "movq", "ema.": "keyframe"}) is None
    assert preferred({}) is None


def test_weights_in_eight_bits_of_either_kind_are_read(micro_folder: Path, tmp_path: Path) -> None:
    weights = load_file(micro_folder / "movq.safetensors")
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
        save_file({name: value.to(dtype) for name, value in weights.items()}, tmp_path / "movq.safetensors")
        shutil.copy(micro_folder / "config.json", tmp_path)
        state = open_component(tmp_path / "movq.safetensors").load(torch.float32).state_dict()
        assert all(torch.equal(value, weights[name].to(dtype).float()) for name, value in state.items())
        assert "F8_E" in str(inspect_file(tmp_path / "movq.safetensors"))


def test_a_file_without_tensors_holds_no_weights(tmp_path: Path) -> None:
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(CheckpointError, match="it holds no weights"):
        inspect_file(tmp_path / "empty.safetensors")

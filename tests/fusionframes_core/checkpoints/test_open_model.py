"""One file of a model is enough to say what it makes; temporal parts of another kind go over the same image U-Net."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fusionframes_core.checkpoints.component import Component, build
from fusionframes_core.checkpoints.convert import convert_file
from fusionframes_core.checkpoints.inspect import inspect_file
from fusionframes_core.checkpoints.official_folder import download_hint
from fusionframes_core.checkpoints.open_model import load_config, open_component, open_model, open_text_encoder
from fusionframes_core.checkpoints.state_dict import load_sources, save_weights
from fusionframes_core.checkpoints.temporal_blocks import (
    AUTO,
    NONE,
    save_temporal_weights,
    temporal_choices,
    temporal_names,
    temporal_path,
    with_temporal,
)
from fusionframes_core.config import ModelConfig, to_dict
from fusionframes_core.errors import CheckpointError
from fusionframes_core.models.temporal import initialise_temporal
from fusionframes_core.models.unet.temporal_layers import TEMPORAL_BLOCKS
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.official_cases import VERSIONS, same_weights, small_official

FILES = {
    "1.0": ("kandinsky_video", "kandinsky_video_interpolation", "movq"),
    "1.1": ("t2v", "interpolation", "video_movq"),
}
KINDS = ("keyframe", "interpolation", "movq")
OTHERS = [name for name in TEMPORAL_BLOCKS if name not in (NONE, "conv1d_attn1d_blocks")]


def loaded(part: Component) -> torch.nn.Module:
    model = build(part.config, device="meta")
    load_sources(model, part.sources, dtype=torch.float32)
    return model


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("converted", [False, True])
def test_a_file_alone_is_its_part_of_the_model(official: dict, version: str, converted: bool, tmp_path: Path) -> None:
    """Away from configs.json, as it is and as a converted file."""
    parts, folder = official[version]
    for kind, stem in zip(KINDS, FILES[version], strict=True):
        file = tmp_path / (f"{stem}.safetensors" if converted else f"{stem}.pt")
        if converted:
            convert_file(folder / f"{stem}.pt", file)
        else:
            shutil.copy(folder / f"{stem}.pt", file)
        part = open_component(file)
        assert part.kind.name == kind
        assert part.config == getattr(small_official(version), kind)
        assert same_weights(loaded(part), getattr(parts, kind))
        names = {name for _, known in part.text for name in known}
        assert any("null_embedding" in name for name in names) == (kind != "movq")


@pytest.mark.parametrize(("version", "stem"), [("1.0", "kandinsky_video"), ("1.1", "t5_projections")])
def test_text_encoder_and_projection_from_two_files(official: dict, version: str, stem: str, tmp_path: Path) -> None:
    parts, folder = official[version]
    shutil.copy(folder / f"{stem}.pt", tmp_path)
    text = open_text_encoder(folder / "text_encoder", tmp_path / f"{stem}.pt")
    wanted = parts.config.text
    assert replace(text.config, feed_forward="") == replace(wanted, feed_forward="")
    own = {name: file.entries[theirs].shape for file, names in text.sources for name, theirs in names.items()}
    assert own["projection.weight"] == tuple(parts.text_encoder.projection.weight.shape)
    assert "t5.block.0.layer.0.SelfAttention.q.weight" in own


def test_files_that_say_too_little_are_named(official: dict, micro_folder: Path, tmp_path: Path) -> None:
    for name in ("keyframe", "interpolation", "movq"):
        shutil.copy(micro_folder / f"{name}.safetensors", tmp_path)
        with pytest.raises(
            CheckpointError, match=rf"{name}\.safetensors says .*put the config\.json of its model folder"
        ):
            open_component(tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match="but a U-Net or MoVQ of a FusionFrames model was expected"):
        open_component(micro_folder / "text_encoder.safetensors")
    with pytest.raises(CheckpointError, match=r"without a text projection: take t5_projections\.pt"):
        open_text_encoder(official["1.1"][1] / "text_encoder", official["1.1"][1] / "t2v.pt")
    assert "KandinskyVideo_1_1" in download_hint("kandinsky-1.1/t2v.pt")
    assert download_hint("mine.safetensors") == ""


@pytest.mark.parametrize("groups", [4, 32])
def test_an_autoencoder_whose_pixels_are_folded_is_not_taken_for_an_official_one(
    micro_config: ModelConfig, tmp_path: Path, groups: int
) -> None:
    """Also where the official number of norm groups happens to fit."""
    movq = build(replace(micro_config.movq, channels=32, groups=groups))
    save_weights(movq.state_dict(), tmp_path / "movq.safetensors")
    with pytest.raises(CheckpointError, match=r"movq\.safetensors says not all .*put the config\.json.*: patch_size"):
        open_component(tmp_path / "movq.safetensors")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_configuration_is_read_in_every_encoding_of_json(folder: Path, encoding: str) -> None:
    """Editors of Windows put a byte-order mark before it."""
    wanted = load_config(folder)
    (folder / "config.json").write_text(json.dumps(to_dict(wanted)), encoding)
    assert load_config(folder) == wanted


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        (
            "movq",
            "channels",
            "x",
            "config.json is not the configuration of a model: movq.channels must be a whole number",
        ),
        (
            "movq",
            "groups",
            5,
            "movq.safetensors cannot be loaded with the configuration of micro: groups 5 must divide",
        ),
        ("text", "feed_forward", "x", "configuration of micro: feed_forward must be one of"),
        ("keyframe_schedule", "sampler", "x", "keyframe_schedule.sampler of micro must be one of ddpm, ddim"),
    ],
)
def test_a_wrong_value_in_a_configuration_is_one_sentence(
    folder: Path, part: str, key: str, value: Any, message: str
) -> None:
    data = json.loads((folder / "config.json").read_text())
    data[part][key] = value
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        FusionFramesPipeline.from_pretrained(folder)("a red circle", steps=1, passes=0)
    assert "\n" not in str(caught.value)


@pytest.fixture
def folder(micro_folder: Path, tmp_path: Path) -> Path:
    """A model folder of the test's own, its keyframe U-Net wide enough for every temporal conditioning."""
    folder = Path(shutil.copytree(micro_folder, tmp_path / "model"))
    config = load_config(folder)
    config = replace(config, keyframe=replace(config.keyframe, model_channels=32, init_channels=32))
    save_weights(build(config.keyframe).state_dict(), folder / "keyframe.safetensors", dtype=None)
    (folder / "config.json").write_text(json.dumps(to_dict(config)))
    return folder


@pytest.mark.parametrize("name", OTHERS)
def test_temporal_parts_of_another_kind(folder: Path, name: str) -> None:
    """Written and read back they are the same, over the same image U-Net; `none` is that alone."""
    config = load_config(folder)
    whole = open_model(folder).components["keyframe"]
    torch.manual_seed(1)
    other = build(replace(config.keyframe, temporal=name))
    initialise_temporal(other)
    save_temporal_weights(other, temporal_path(folder, name), dtype=None)
    part = with_temporal(whole, name)
    found = loaded(part)
    assert set(temporal_choices(whole)) == {AUTO, NONE, config.keyframe.temporal, name}
    temporal = temporal_names(part.config)
    new, old = other.state_dict(), loaded(whole).state_dict()
    for key, value in found.state_dict().items():
        assert torch.equal(value, new[key] if key in temporal else old[key]), key
    assert inspect_file(temporal_path(folder, name)).kind == f"temporal parts {name} of a keyframe U-Net"
    image = loaded(with_temporal(whole, NONE))
    assert not temporal_names(image.config)
    assert set(image.state_dict()) == set(found.state_dict()) - temporal


def test_what_is_not_there_is_named(folder: Path) -> None:
    whole = open_model(folder).components["keyframe"]
    assert with_temporal(whole, AUTO) is whole
    assert with_temporal(whole, whole.config.temporal) is whole
    with pytest.raises(ValueError, match="temporal_blocks must be one of auto, conv1d_attn1d_blocks"):
        with_temporal(whole, "conv9d")
    with pytest.raises(CheckpointError, match=r"needs temporal_conv1d_attn3d_blocks\.safetensors in .*there are auto"):
        with_temporal(whole, "conv1d_attn3d_blocks")
    save_weights({"x": torch.zeros(1)}, temporal_path(folder, "conv1d_attn3d_blocks"))
    with pytest.raises(CheckpointError, match="holds no temporal parts"):
        with_temporal(whole, "conv1d_attn3d_blocks")
    wide = replace(whole.config, temporal="conv1d_attn3d_blocks", model_channels=64, init_channels=64)
    save_temporal_weights(build(wide), temporal_path(folder, "conv1d_attn3d_blocks"))
    with pytest.raises(CheckpointError, match="belongs to another U-Net"):
        with_temporal(whole, "conv1d_attn3d_blocks")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "keyframe.safetensors"])
def test_a_pointer_in_a_folder_is_named(folder: Path, name: str) -> None:
    """Cloned without Git LFS, a folder holds pointers in the place of its large files."""
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match=rf"cannot load .*{name}: it is a Git LFS pointer"):
        open_model(folder).load()

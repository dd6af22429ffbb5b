"""Official files load as they are, convert both ways without a change, and give the same video bit for bit."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fusionframes_core.checkpoints.component import build as build_model
from fusionframes_core.checkpoints.convert import convert_file, save_official_folder
from fusionframes_core.checkpoints.embedded_config import CONFIG_TENSOR, config_tensor
from fusionframes_core.checkpoints.inspect import inspect_file, inspect_path
from fusionframes_core.checkpoints.model_folder import save_model_folder
from fusionframes_core.checkpoints.official_folder import OFFICIAL_FILES, official_version, open_official_folder
from fusionframes_core.checkpoints.open_model import load_config, load_weights, model_folder, open_component, open_model
from fusionframes_core.checkpoints.weights_file import open_weights
from fusionframes_core.errors import CheckpointError
from fusionframes_core.pipeline import FusionFramesPipeline
from tests.helpers.official_cases import VERSIONS, same_weights, small_official

FAST: dict[str, Any] = {"num_frames": 3, "steps": 2, "interpolation_steps": 2, "size": (16, 16), "passes": 1}
PROMPT = "a large red circle moving left"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_configuration_is_read_off_the_files(official: dict, version: str) -> None:
    folder = official[version][1]
    assert official_version(folder) == version
    assert open_official_folder(folder).config == small_official(version)
    assert {path.stem for path in folder.glob("*.pt")} == set(OFFICIAL_FILES[version].values())


@pytest.mark.parametrize("version", VERSIONS)
def test_official_files_give_the_same_video(official: dict, version: str) -> None:
    """In place, from the disk stage by stage, and as a folder of ours: always the same bits."""
    parts, folder = official[version]
    expected = FusionFramesPipeline(parts)(PROMPT, **FAST)
    for offload in ("none", "disk", "cpu"):
        again = FusionFramesPipeline.from_pretrained(folder, offload=offload)
        assert torch.equal(again(PROMPT, **FAST).frames, expected.frames), offload
        if offload == "disk":
            assert again.models == ()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_part_arrives(official: dict, version: str, tmp_path: Path) -> None:
    parts, folder = official[version]
    loaded = FusionFramesPipeline.from_pretrained(folder).parts
    save_model_folder(loaded, tmp_path, dtype=None)
    ours = open_model(tmp_path).load()
    for name in ("text_encoder", "keyframe", "interpolation", "movq", "image_movq"):
        if getattr(parts, name) is not None:
            assert same_weights(getattr(parts, name), getattr(loaded, name)), name
            assert same_weights(getattr(parts, name), getattr(ours, name)), name
    assert ours.config == loaded.config


def test_configs_json_says_what_shapes_do_not(official: dict, tmp_path: Path) -> None:
    folder = official["1.1"][1]
    sizes = {"t2v": {"configs": {"head_dim": 32, "groups": 16}}, "interpolation": {"configs": {"head_dim": 32}}}
    other = tmp_path / "other"
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).symlink_to(path)
    (other / "configs.json").write_text(json.dumps({**sizes, "text_encoder": {"tokens_length": 77}}))
    config = open_model(other).config
    assert (config.keyframe.head_dim, config.keyframe.groups) == (32, 16)
    assert (config.interpolation.trunk.head_dim, config.interpolation.trunk.groups) == (32, 32)
    assert config.text.max_tokens == 77


@pytest.mark.slow
def test_the_bundled_model_in_the_official_layout_gives_the_same_video(tmp_path: Path) -> None:
    parts = open_model("tiny").load()
    save_official_folder(parts, tmp_path)
    settings: dict[str, Any] = {"num_frames": 4, "steps": 2, "interpolation_steps": 1, "passes": 1}
    expected = FusionFramesPipeline(parts)(PROMPT, **settings)
    assert torch.equal(FusionFramesPipeline.from_pretrained(tmp_path)(PROMPT, **settings).frames, expected.frames)


@pytest.mark.parametrize("version", VERSIONS)
def test_conversion_and_back_changes_nothing(official: dict, version: str, tmp_path: Path) -> None:
    parts, folder = official[version]
    for name, stem in OFFICIAL_FILES[version].items():
        source, ours, back = folder / f"{stem}.pt", tmp_path / f"{stem}.safetensors", tmp_path / f"{stem}.pt"
        identity, count = convert_file(source, ours)
        assert (identity.kind, count) == (name.replace("image_", ""), len(open_weights(source).entries))
        convert_file(ours, back, layout="official")
        first, second = open_weights(source), open_weights(back)
        assert first.entries == second.entries
        theirs, again = first.tensors(first.entries), second.tensors(second.entries)
        assert all(torch.equal(theirs[key], again[key]) for key in theirs)
        if name in ("keyframe", "interpolation", "movq"):
            model = build_model(getattr(parts.config, name), device="meta")
            load_weights(model, ours)
            assert same_weights(model, getattr(parts, name))


def test_a_file_of_ours_is_not_called_another_by_conversion(tmp_path: Path) -> None:
    """Its shapes say neither its heads nor how it is sampled: it keeps what it says of itself, and no more."""
    source = model_folder("tiny") / "keyframe.safetensors"
    convert_file(source, tmp_path / "plain.safetensors")
    with pytest.raises(CheckpointError, match=r"says no sizes: put the config\.json of its model folder beside it"):
        open_component(tmp_path / "plain.safetensors")
    config = load_config(model_folder("tiny"))
    tensors = {**load_file(source), CONFIG_TENSOR: config_tensor(config)}
    save_file(tensors, tmp_path / "saved.safetensors")
    convert_file(tmp_path / "saved.safetensors", tmp_path / "again.safetensors", dtype=torch.float32)
    assert open_component(tmp_path / "again.safetensors").config == config.keyframe


def test_a_converted_file_says_what_it_is(official: dict, tmp_path: Path) -> None:
    folder, out = official["1.1"][1], tmp_path / "t2v.safetensors"
    convert_file(folder / "t2v.pt", out, dtype=torch.float8_e4m3fn)
    with safe_open(out, "pt") as file:
        assert json.loads(file.metadata()["config"])["motion_score"] is True
        types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    assert types == {"F8_E4M3", "BF16"}
    assert inspect_file(out).kind == "keyframe U-Net"


@pytest.mark.parametrize("version", VERSIONS)
def test_inspection_of_official_files(official: dict, version: str, tmp_path: Path) -> None:
    parts, folder = official[version]
    text = inspect_path(folder)
    assert text.startswith(f"official files of KandinskyVideo {version}")
    assert f"official KandinskyVideo {version} keyframe U-Net" in text
    assert "missing" not in text
    stem = OFFICIAL_FILES[version]["interpolation"]
    summary = inspect_file(folder / f"{stem}.pt")
    assert summary.missing == summary.unexpected == ()
    own = sum(parameter.numel() for parameter in parts.interpolation.parameters())
    assert summary.num_parameters == own + 64  # the null embedding
    content = torch.load(folder / f"{stem}.pt", weights_only=True)
    content["unet"]["surplus.weight"] = content["unet"].pop("skip_merge")
    torch.save(content, tmp_path / "odd.pt")
    odd = inspect_file(tmp_path / "odd.pt")
    assert odd.missing == ("group_embedding.skip_frames_merge.weight",)
    assert odd.unexpected == ("surplus.weight",)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_file_is_named_with_its_home(official: dict, version: str, tmp_path: Path) -> None:
    folder = official[version][1]
    stems = OFFICIAL_FILES[version]
    for path in folder.iterdir():
        if path.stem != stems["movq"]:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(CheckpointError, match=rf"no {stems['movq']}\.pt in .*https://huggingface\.co/ai-forever"):
        open_official_folder(tmp_path)
    (tmp_path / "text_encoder").unlink()
    (tmp_path / f"{stems['movq']}.pt").symlink_to(folder / f"{stems['movq']}.pt")
    with pytest.raises(CheckpointError, match=r"no text encoder at .*google/flan-ul2"):
        open_official_folder(tmp_path)
    assert open_official_folder(tmp_path, folder / "text_encoder").config == small_official(version)


def test_a_file_in_another_ones_place_is_refused(official: dict, tmp_path: Path) -> None:
    folder = official["1.1"][1]
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for stem in ("video_movq", "interpolation", "t5_projections"):
        (tmp_path / f"{stem}.pt").unlink()
        (tmp_path / f"{stem}.pt").symlink_to(folder / "t2v.pt")
        with pytest.raises(CheckpointError, match=rf"{stem}\.pt is a KandinskyVideo 1\.1 keyframe U-Net, but"):
            open_official_folder(tmp_path)
        (tmp_path / f"{stem}.pt").unlink()
        (tmp_path / f"{stem}.pt").symlink_to(folder / f"{stem}.pt")


def test_interpolation_of_1_1_has_its_own_null_embedding_and_the_keyframes_projection(official: dict) -> None:
    encoder = official["1.1"][0].text_encoder
    keyframes, interpolation = encoder.encode_for([PROMPT, ""], ("keyframes", "interpolation"))
    assert torch.equal(keyframes.context[0], interpolation.context[0])
    assert torch.equal(keyframes.context[1, 0], encoder.null_embedding)
    assert torch.equal(interpolation.context[1, 0], encoder.interpolation.null_embedding)
    assert not torch.equal(encoder.null_embedding, encoder.interpolation.null_embedding)
    encoder.config, kept = dataclasses.replace(encoder.config, interpolation_projection="own"), encoder.config
    try:
        assert not torch.allclose(encoder.encode_for([PROMPT], ("interpolation",))[0].context, keyframes.context[:1])
    finally:
        encoder.config = kept


@pytest.mark.parametrize("value", ["x", None, 0, 5, [1], 1e400])
def test_sizes_of_configs_json_that_cannot_be_are_one_sentence(official: dict, tmp_path: Path, value: Any) -> None:
    folder = Path(shutil.copytree(official["1.1"][1], tmp_path / "model"))
    (folder / "configs.json").write_text(json.dumps({"t2v": {"configs": {"groups": value}}}))
    with pytest.raises(CheckpointError) as caught:
        open_official_folder(folder).load()
    assert "\n" not in str(caught.value)

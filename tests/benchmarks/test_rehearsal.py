"""A rehearsal's files: of the official names and layout, as large as asked for, and read as official ones are."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.rehearsal import parse_modes
from benchmarks.rehearsal_files import VERSIONS, link_for_comfyui, scaled, write_files, write_text_encoder
from benchmarks.rehearsal_runs import MARK, WHOLE, Short, measured, peak_memory, read_marks, run_mode
from benchmarks.text_types import errors
from fusionframes_core.checkpoints.component import build
from fusionframes_core.checkpoints.open_model import open_model
from fusionframes_core.models.text_encoder import TextEncoder
from fusionframes_core.settings import GenerationSettings
from tests.fusionframes_core.models.test_text_encoder import CONFIG

FILES = {
    "1.0": {"kandinsky_video.pt", "kandinsky_video_interpolation.pt", "movq.pt"},
    "1.1": {"t2v.pt", "interpolation.pt", "movq.pt", "video_movq.pt", "t5_projections.pt"},
}


@pytest.mark.parametrize("version", VERSIONS)
def test_scale_one_is_the_model_itself_and_others_can_be_built(version: str) -> None:
    assert scaled(VERSIONS[version], 1.0) == VERSIONS[version]
    small = scaled(VERSIONS[version], 0.3)
    GenerationSettings().resolve(small)
    for part in (small.keyframe, small.interpolation, small.movq):
        build(part, device="meta")


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_files_are_read_as_official_ones(version: str, tmp_path: Path) -> None:
    """By their shapes alone, as released files are; only the size of the video is the official one."""
    config = scaled(VERSIONS[version], 0.05)
    write_files(config, tmp_path, shard_bytes=200_000)
    assert {file.name for file in tmp_path.glob("*.pt")} == FILES[version]
    assert not (tmp_path / "configs.json").exists()
    model = open_model(tmp_path)
    assert model.config == replace(config, size=(512, 512))
    model.components["text_encoder"].load(torch.bfloat16)
    link_for_comfyui(tmp_path, version, tmp_path / "models")
    linked = {file.name for file in (tmp_path / "models").rglob("*.pt")}
    assert linked == FILES[version]


@pytest.mark.slow
def test_shards_hold_every_tensor_once(tmp_path: Path) -> None:
    """Under the names of an index, in the type of the real ones, as sharded safetensors of a T5 are."""
    config = scaled(VERSIONS["1.1"], 0.05)
    write_text_encoder(config, tmp_path, shard_bytes=200_000)
    placed = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    files = sorted(set(placed.values()))
    assert files == [f"model-{number:05d}-of-{len(files):05d}.safetensors" for number in range(1, len(files) + 1)]
    assert len(files) > 2
    found = {name: tensor for file in files for name, tensor in load_file(tmp_path / file).items()}
    assert found.keys() == placed.keys()
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}
    assert all(tensor.isfinite().all() and tensor.any() for tensor in found.values())


def test_what_a_run_says_of_its_stages_is_read() -> None:
    said = f"{MARK}\tmovq\t5\t0.5\nsome words\n{MARK}\t{WHOLE}\t7\t2.0\n"
    assert [(mark.name, mark.memory, mark.seconds) for mark in read_marks(said)] == [("movq", 5, 0.5), (WHOLE, 7, 2.0)]
    with measured("nothing"):
        assert peak_memory() > 10**6


def test_modes_are_named_as_options_are() -> None:
    assert parse_modes("bf16/disk/layers,fp8/disk/layers") == [("bf16", "disk", "layers"), ("fp8", "disk", "layers")]
    with pytest.raises(argparse.ArgumentTypeError, match=r"modes must be of bf16/none/full, .*; got 'bf16'"):
        parse_modes("bf16")


@pytest.mark.slow
def test_prompt_to_video_in_one_mode(tmp_path: Path) -> None:
    """By the command line, from the files; every stage says what it took."""
    config = scaled(VERSIONS["1.0"], 0.05)
    write_files(config, tmp_path)
    run = run_mode(tmp_path, ("bf16", "disk", "layers"), Short(config.size, steps=1, frames=2))
    assert run.succeeded, run.said
    assert [stage.name for stage in run.stages] == ["text_encoder", "keyframe", "interpolation", "movq"]
    assert run.memory >= max(stage.memory for stage in run.stages) > 10**7
    assert (tmp_path / "rehearsal.mp4").stat().st_size > 0


def test_sixteen_bits_are_compared_with_float32() -> None:
    """bf16 keeps eight bits of a number and fp16 eleven."""
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG).eval().requires_grad_(False)
    ids = torch.randint(2, CONFIG.vocab_size, (2, 8))
    coarse, fine = (errors(encoder, ids, dtype) for dtype in (torch.bfloat16, torch.float16))
    assert max(errors(encoder, ids, torch.float32)) < 1e-5
    assert coarse[1] > fine[1] > 0
    rounded = encoder.bfloat16().float()
    everything, sums, computed = errors(rounded, ids, torch.bfloat16)
    assert everything > sums > 100 * computed

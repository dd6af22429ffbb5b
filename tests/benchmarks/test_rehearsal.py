"""A rehearsal's files: of the official names and layout, as large as asked for, and read as official ones are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.rehearsal import VERSIONS, scaled, shard, write_files
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
    config = scaled(VERSIONS[version], 0.05)
    write_files(config, tmp_path)
    assert {file.name for file in tmp_path.glob("*.pt")} == FILES[version]
    assert not (tmp_path / "text_encoder" / "model.safetensors").exists()
    model = open_model(tmp_path)
    assert model.config == config
    model.components["text_encoder"].load(torch.bfloat16)


def test_shards_hold_every_tensor_once(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {f"layer.{index}": torch.full((10,), float(index)) for index in range(5)}
    save_file(tensors, tmp_path / "model.safetensors")
    shard(tmp_path / "model.safetensors", most=80)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert sorted(set(index.values())) == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    for name, file in index.items():
        assert torch.equal(load_file(tmp_path / file)[name], tensors[name])


def test_sixteen_bits_are_compared_with_float32() -> None:
    """bf16 keeps eight bits of a number and fp16 eleven."""
    torch.manual_seed(0)
    encoder = TextEncoder(CONFIG).eval().requires_grad_(False)
    ids = torch.randint(2, CONFIG.vocab_size, (2, 8))
    coarse, fine = (errors(encoder, ids, dtype) for dtype in (torch.bfloat16, torch.float16))
    assert max(errors(encoder, ids, torch.float32)) < 1e-5
    assert coarse[1] > fine[1] > 0

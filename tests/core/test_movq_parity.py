"""MoVQ against the official code's numbers (float32, CPU) and the names and sizes of its checkpoints."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from fusionframes_core.config import MoVQConfig
from fusionframes_core.conversion_movq import movq_from_official
from fusionframes_core.models.movq import DECODERS, MoVQ
from fusionframes_core.models.movq_blocks import TemporalParts
from tests.core.movq_cases import OFFICIAL

TOLERANCE = 1e-4
CASES = ["kv10_movq_image", *(f"kv11_movq_{name}" for name in DECODERS if name != "conv2d_to_3d")]
MANIFESTS = [("kv10_movq", "image"), ("kv11_movq", "image"), ("kv11_video_movq", "conv3_attn")]


def load(folder: Path, name: str) -> tuple[dict, dict[str, Tensor]]:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {folder}")
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["config"]), tensors


def movq_config(official: dict, attention_norm: str) -> MoVQConfig:
    parts = TemporalParts(
        kernel=tuple(official.get("temporal_kernel_size", (3, 3, 3))) if official.get("temporal") else None,
        attention=official.get("temporal_attention_block", False),
        residual_blocks=official.get("temporal_blocks", False),
        inflated=official.get("build_3D_decoder", False),
    )
    levels = range(len(official["ch_mult"]))
    return MoVQConfig(
        latent_channels=official["z_channels"],
        channels=official["ch"],
        channel_mult=tuple(official["ch_mult"]),
        num_res_blocks=official["num_res_blocks"],
        attention_levels=tuple(i for i in levels if official["resolution"] // 2**i in official["attn_resolutions"]),
        groups=32,
        patch_size=1,
        latent_activation="none",
        decoder=next(name for name, known in DECODERS.items() if known == parts),
        attention_norm=attention_norm,
        temporal_merge="convex",
    )


def relative_error(ours: Tensor, official: Tensor) -> float:
    """ours (1, C, T, H, W), official (T, C, H, W)."""
    return ((ours[0].transpose(0, 1) - official).abs().max() / official.abs().max()).item()


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_official_numbers(golden_dir: Path, name: str) -> None:
    official, case = load(golden_dir, name)
    movq = MoVQ(movq_config(official, "per_frame" if name.startswith("kv10") else "first_frame"))
    weights = {key.removeprefix("weights/"): value for key, value in case.items() if key.startswith("weights/")}
    movq.load_state_dict(movq_from_official(weights), strict=True)
    video = {key: value.transpose(0, 1)[None] for key, value in case.items() if key.startswith("in/")}
    errors = {"decode": relative_error(movq.decode(video["in/latents"]), case["out/pixels"])}
    if "in/pixels" in video:
        errors["encode"] = relative_error(movq.encode(video["in/pixels"]), case["out/latents"])
    print(name, {key: f"{error:.1e}" for key, error in errors.items()})
    assert max(errors.values()) <= TOLERANCE


@pytest.mark.parametrize(("checkpoint", "decoder"), MANIFESTS)
def test_official_names_and_shapes(golden_dir: Path, checkpoint: str, decoder: str) -> None:
    path = golden_dir / f"manifest_{checkpoint}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {golden_dir}")
    state = MoVQ(dataclasses.replace(OFFICIAL, decoder=decoder), device="meta").state_dict()
    ours = {name: list(tensor.shape) for name, tensor in state.items()}
    assert ours == movq_from_official(json.loads(path.read_text()))

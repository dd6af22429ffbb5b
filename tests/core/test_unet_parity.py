"""The U-Nets against the official code's numbers (float32, CPU)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fusionframes_core.config import InterpolationConfig, ModelConfig, UNetConfig
from fusionframes_core.conversion_unet import convert_unet
from fusionframes_core.models.interpolation import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet import KeyframeCondition, UNet
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1

TOLERANCE = 1e-4


def load(folder: Path, name: str) -> tuple[dict, dict, dict]:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {folder}")
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    return config, weights, tensors


def unet_config(official: dict, conditioning: str, **changes) -> UNetConfig:
    sizes = {
        "in_channels": official["num_channels"],
        "channel_mult": tuple(official["dim_mult"]),
        "num_blocks": tuple(official["num_blocks"]),
        "cross_attention": tuple(official["add_cross_attention"]),
        "self_attention": tuple(official["add_self_attention"]),
        "temporal": "conv1d_attn1d_blocks",
        "temporal_conditioning": conditioning,
        "temporal_place": "none",
        "image_input": False,
        "motion_score": False,
        "noise_augmentation": False,
    }
    same = "out_channels model_channels init_channels time_embed_dim context_dim groups head_dim expansion_ratio"
    for name in (*same.split(), "compression_ratio"):
        sizes[name] = official[name]
    return UNetConfig(**{**sizes, **changes})


def as_video(frames: torch.Tensor) -> torch.Tensor:
    return frames.transpose(0, 1)[None]


def agree(ours: torch.Tensor, official: torch.Tensor) -> float:
    error = ((ours - official).abs().max() / official.abs().max()).item()
    print(f"relative error {error:.2e}")
    assert error <= TOLERANCE
    return error


@torch.no_grad()
def test_keyframe_1_0(golden_dir: Path) -> None:
    official, weights, case = load(golden_dir, "kv10_keyframe_unet")
    unet = UNet(unet_config(official, "separate"))
    unet.load_state_dict(convert_unet(weights, "keyframe"), strict=True)
    condition = KeyframeCondition(case["in/context"], case["in/context_mask"], case["in/temporal_positions"][None])
    out = unet(as_video(case["in/x"]), case["in/time"][:1], condition)
    agree(out, as_video(case["out/noise"]))


@torch.no_grad()
def test_keyframe_1_1(golden_dir: Path) -> None:
    official, weights, case = load(golden_dir, "kv11_keyframe_unet")
    extras = {"image_input": True, "motion_score": official["motion_score"]}
    unet = UNet(unet_config(official, "sum", noise_augmentation=official["noise_augmentation"], **extras))
    unet.load_state_dict(convert_unet(weights, "keyframe"), strict=True)
    context, mask = case["in/context"], case["in/context_mask"]
    condition = KeyframeCondition(
        context,
        mask,
        case["in/temporal_positions"][None],
        case["in/motion_score"][:1],
        case["in/noise_augmentation"][:1],
    )
    agree(unet(as_video(case["in/x"]), case["in/time"][:1], condition), as_video(case["out/noise"]))
    stills = case["in/image_x"][:, :, None]
    condition = KeyframeCondition(context.expand(len(stills), -1, -1), mask.expand(len(stills), -1), image=True)
    agree(unet(stills, case["in/image_time"], condition), case["out/image_noise"][:, :, None])


def interpolate(golden_dir: Path, version: str, attention: bool, fixed: int | None, pooling: str) -> None:
    official, weights, case = load(golden_dir, f"{version}_interpolation_unet")
    trunk = unet_config(official, "sum", temporal="none")
    unet = InterpolationUNet(InterpolationConfig(trunk, "convex", attention, False, fixed, pooling, "zero"))
    unet.load_state_dict(convert_unet(weights, "interpolation"), strict=True)
    x = as_video(case["in/x"])
    keyframes = torch.cat((x[:, :4], x[:, 16:, -1:]), dim=2)
    same_neighbours = torch.equal(keyframes[:, :, 1:], x[:, 16:])  # else only the 20 channels say it all
    condition = InterpolationCondition(
        keyframes, case["in/context"][:1], case["in/context_mask"][:1], case["in/skip_frames"][:1].long(),
        case.get("in/perturbation_time", torch.zeros(1))[:1], torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    time = case["in/time"][:1]
    out = unet(x[:, 4:16], time, condition) if same_neighbours else unet.predict(x, time, condition)
    agree(out, as_video(case["out/v"]))


@torch.no_grad()
def test_interpolation_1_0(golden_dir: Path) -> None:
    interpolate(golden_dir, "kv10", attention=False, fixed=0, pooling="before")


@torch.no_grad()
def test_interpolation_1_1(golden_dir: Path) -> None:
    interpolate(golden_dir, "kv11", attention=True, fixed=None, pooling="after")


@pytest.mark.parametrize(
    ("manifest", "kind", "model", "size"),
    [
        ("kv10_kandinsky_video.unet", "keyframe", KANDINSKY_VIDEO_1_0, 4.14e9),
        ("kv10_kandinsky_video_interpolation.unet", "interpolation", KANDINSKY_VIDEO_1_0, 3.87e9),
        ("kv11_t2v.unet", "keyframe", KANDINSKY_VIDEO_1_1, 4.15e9),
        ("kv11_interpolation.unet", "interpolation", KANDINSKY_VIDEO_1_1, 3.98e9),
    ],
)
def test_full_size_checkpoints_fit(golden_dir: Path, manifest: str, kind: str, model: ModelConfig, size: float) -> None:
    path = golden_dir / f"manifest_{manifest}.json"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {golden_dir}")
    shapes = {key: torch.empty(shape, device="meta") for key, shape in json.loads(path.read_text()).items()}
    unet = (
        UNet(model.keyframe, device="meta")
        if kind == "keyframe"
        else InterpolationUNet(model.interpolation, device="meta")
    )
    ours = {key: value.shape for key, value in unet.state_dict().items()}
    assert {key: value.shape for key, value in convert_unet(shapes, kind).items()} == ours
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(size, rel=2e-3)

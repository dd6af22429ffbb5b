"""Whole sampling chains against the official code's numbers (float32, CPU): schedule, guidance, thresholds, sampler."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from fusionframes_core.config import UNetConfig
from fusionframes_core.conversion_unet import convert_unet
from fusionframes_core.models.interpolation import InterpolationUNet
from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet import UNet
from fusionframes_core.presets import KANDINSKY_VIDEO_1_0, KANDINSKY_VIDEO_1_1
from fusionframes_core.sampling.sampler import NoiseSource
from fusionframes_core.sampling.schedule import NoiseSchedule, add_noise
from fusionframes_core.stages import FirstImage, Sampling, interpolate, sample_keyframes, sample_keyframes_from_image

TOLERANCE = 1e-3


def read(folder: Path, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {folder}")
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def trunk_like(official: dict[str, Any], preset: UNetConfig) -> UNetConfig:
    """The preset's choices at the case's sizes."""
    same = ("model_channels", "init_channels", "time_embed_dim", "context_dim", "groups", "head_dim")
    sizes = {name: official[name] for name in (*same, "expansion_ratio", "compression_ratio")}
    for ours, theirs in (("channel_mult", "dim_mult"), ("num_blocks", "num_blocks")):
        sizes[ours] = tuple(official[theirs])
    for kind in ("cross_attention", "self_attention"):
        sizes[kind] = tuple(official[f"add_{kind}"])
    return dataclasses.replace(preset, **sizes)


def load_unet(folder: Path, case: dict[str, Any], preset: Any, kind: str) -> Any:
    """The U-Net of a sampling case, at the case's sizes, with the official weights."""
    official, tensors = read(folder, case["weights_in"])
    if kind == "keyframe":
        unet: Any = UNet(trunk_like(official, preset))
    else:
        unet = InterpolationUNet(dataclasses.replace(preset, trunk=trunk_like(official, preset.trunk)))
    weights = {key.removeprefix("weights/"): value for key, value in tensors.items() if key.startswith("weights/")}
    unet.load_state_dict(convert_unet(weights, kind), strict=True)
    return unet.eval()


def as_video(frames: Tensor) -> Tensor:
    """Official (T, C, h, w) to (1, C, T, h, w)."""
    return frames.transpose(0, 1)[None]


def recorded(noises: Tensor) -> NoiseSource:
    """The case's draws, one after another."""
    draws = iter(noises)

    def draw(shape: tuple[int, ...]) -> Tensor:
        noise = as_video(next(draws))
        assert tuple(noise.shape) == shape
        return noise

    return draw


def null_context(null_embedding: Tensor, num_tokens: int) -> TextContext:
    context = torch.zeros(1, num_tokens, len(null_embedding))
    context[:, 0] = null_embedding
    mask = torch.zeros(1, num_tokens, dtype=torch.bool)
    mask[:, 0] = True
    return TextContext(context, mask)


def contexts(tensors: dict[str, Tensor]) -> tuple[TextContext, TextContext]:
    text = TextContext(tensors["in/context"], tensors["in/context_mask"])
    return text, null_context(tensors["weights/null_embedding"], text.mask.shape[1])


def assert_agrees(ours: Tensor, official: Tensor) -> None:
    error = ((ours - official).abs().max() / official.abs().max()).item()
    print(f"relative error {error:.2e}")
    assert error <= TOLERANCE


def test_keyframes_of_1_0(golden_dir: Path) -> None:
    case, tensors = read(golden_dir, "kv10_keyframe_sampling")
    unet = load_unet(golden_dir, case, KANDINSKY_VIDEO_1_0.keyframe, "keyframe")
    schedule = KANDINSKY_VIDEO_1_0.keyframe_schedule
    schedule = dataclasses.replace(schedule, schedule=case["schedule"], threshold_quantile=case["percentile"])
    positions, noise = tensors["in/temporal_positions"][None], recorded(tensors["in/noises"])
    size = tuple(tensors["in/noises"].shape[-2:])
    sampling = Sampling(schedule, case["steps"])
    result = sample_keyframes(unet, *contexts(tensors), case["guidance"], positions, size, noise, sampling)
    assert_agrees(result, as_video(tensors["out/latents"]))


def test_interpolation_of_1_0(golden_dir: Path) -> None:
    case, tensors = read(golden_dir, "kv10_interpolation_sampling")
    unet = load_unet(golden_dir, case, KANDINSKY_VIDEO_1_0.interpolation, "interpolation")
    schedule = KANDINSKY_VIDEO_1_0.interpolation_schedule
    schedule = dataclasses.replace(schedule, schedule=case["schedule"], threshold_quantile=case["percentile"])
    null = null_context(tensors["weights/null_embedding"], 2)
    levels, noise = (case["skip_frames"], case["perturbation"]), recorded(tensors["in/noises"])
    video = interpolate(
        unet,
        as_video(tensors["in/keyframes"]),
        (null, null),
        case["guidance"],
        levels,
        noise,
        Sampling(schedule, case["steps"]),
        drop_temporal=False,
    )
    assert_agrees(video, as_video(tensors["out/video"]))


def test_keyframes_of_1_1(golden_dir: Path) -> None:
    case, tensors = read(golden_dir, "kv11_keyframe_sampling")
    unet = load_unet(golden_dir, case, KANDINSKY_VIDEO_1_1.keyframe, "keyframe")
    schedule = KANDINSKY_VIDEO_1_1.keyframe_schedule
    assert list(NoiseSchedule.from_config(schedule, case["steps"]).times) == case["timesteps"]
    level = torch.tensor(case["noise_augmentation"])
    alpha, sigma = NoiseSchedule.from_config(schedule).alpha_sigma(level)
    still = add_noise(tensors["in/keyframe"][None, :, None], tensors["in/keyframe_noise"][None, :, None], alpha, sigma)
    image = FirstImage(still, case["guidance_image"], case["motion_score"], case["noise_augmentation"])
    positions = torch.arange(tensors["in/noises"].shape[1], dtype=torch.float32)[None]
    noise, sampling = recorded(tensors["in/noises"]), Sampling(schedule, case["steps"])
    guidance = case["guidance_prompt"]
    result = sample_keyframes_from_image(unet, *contexts(tensors), guidance, positions, image, noise, sampling)
    assert_agrees(result, as_video(tensors["out/latents"]))


def test_interpolation_of_1_1(golden_dir: Path) -> None:
    case, tensors = read(golden_dir, "kv11_interpolation_sampling")
    unet = load_unet(golden_dir, case, KANDINSKY_VIDEO_1_1.interpolation, "interpolation")
    schedule = KANDINSKY_VIDEO_1_1.interpolation_schedule
    assert list(NoiseSchedule.from_config(schedule, case["steps"]).times) == case["timesteps"]
    keyframes = as_video(tensors["in/keyframes"])
    video = interpolate(
        unet,
        keyframes,
        contexts(tensors),
        case["guidance"],
        (case["skip_frames"], case["perturbation"]),
        recorded(tensors["in/noises"]),
        Sampling(schedule, case["steps"]),
        drop_temporal=True,
    )
    groups = video[0, :, :-1].unflatten(1, (-1, 4))[:, :, 1:].permute(1, 2, 0, 3, 4).flatten(1, 2)  # (G, 3 · 4, h, w)
    assert_agrees(groups, tensors["out/groups"])

"""Our code beside the official KandinskyVideo code: same weights, same inputs, same outputs.

KANDINSKY_VIDEO_PATH names the official work trees, separated as in PATH: branch `kandinsky_video_1_0` (1.0) and `main`
(1.1). Nothing of them is imported but their networks. Sizes are in between: a 2-core machine runs each case in seconds.
"""

from __future__ import annotations

import importlib
import os
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Case, Sides
from fusionframes_core.conversion import identify, interpolation_config, movq_config, unet_config
from fusionframes_core.models.interpolation import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.movq import MoVQ
from fusionframes_core.models.unet import KeyframeCondition, UNet

VARIABLE = "KANDINSKY_VIDEO_PATH"
PACKAGES = {"1.0": "video_kandinsky3", "1.1": "kandinsky_video"}
TOKENS, CONTEXT = 32, 256
CPU_FLAGS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Size:
    """How large a case is."""

    channels: int
    levels: int
    frames: int
    side: int  # of the latents


MIDDLE, SMALL = Size(channels=128, levels=3, frames=6, side=32), Size(channels=64, levels=2, frames=3, side=8)


def work_trees() -> dict[str, Path]:
    """Version → the official work tree, of those that KANDINSKY_VIDEO_PATH names."""
    places = [Path(place) for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]
    return {version: place for version, package in PACKAGES.items() for place in places if (place / package).is_dir()}


def official_module(version: str, name: str) -> Any:
    """A module of the official package, without its `__init__`, which needs a hub, configurations and more."""
    package = PACKAGES[version]
    for parent in (package, f"{package}.model"):
        if parent not in sys.modules:
            made = types.ModuleType(parent)
            made.__path__ = [str(work_trees()[version] / parent.replace(".", "/"))]
            sys.modules[parent] = made
    if "skimage.transform" not in sys.modules:  # the official utilities resize masks with it; networks do not
        sys.modules["skimage"] = types.ModuleType("skimage")
        sys.modules["skimage.transform"] = types.ModuleType("skimage.transform")
        sys.modules["skimage.transform"].resize = None  # type: ignore[attr-defined]
    sys.modules.setdefault("omegaconf", types.ModuleType("omegaconf")).OmegaConf = None  # type: ignore[attr-defined]
    return importlib.import_module(f"{package}.{name}")


def _unet_arguments(size: Size, **changes: Any) -> dict[str, Any]:
    mult = tuple(2**level for level in range(size.levels))
    attends = (False, *([True] * (size.levels - 1)))
    return {
        "model_channels": size.channels,
        "init_channels": 64,
        "time_embed_dim": 256,
        "context_dim": CONTEXT,
        "dim_mult": mult,
        "num_blocks": (2,) * size.levels,
        "add_cross_attention": attends,
        "add_self_attention": attends,
        **changes,
    }


@torch.no_grad()
def _randomise(model: nn.Module) -> nn.Module:
    """No part is silent: what starts at zero (norms, merges) gets random values too."""
    for parameter in model.parameters():
        if not parameter.any():
            parameter.fill_(0.3) if parameter.numel() == 1 else parameter.normal_(0, 0.01)
    return model.eval()


def _ours(official: nn.Module, kind: Callable[..., Any], config: Callable[..., Any], version: str) -> Any:
    """Our model with the official one's weights, architecture and names as the conversion reads them."""
    state = official.state_dict()
    names = identify({name: tuple(value.shape) for name, value in state.items()}).names
    model = kind(config({ours: tuple(state[theirs].shape) for ours, theirs in names.items()}, version), device="meta")
    model.load_state_dict({ours: state[theirs] for ours, theirs in names.items()}, strict=True, assign=True)
    return model.eval()


def _as_videos(frames: Tensor, count: int) -> Tensor:
    """Official (count · T, C, h, w) to (count, C, T, h, w)."""
    return frames.unflatten(0, (count, -1)).transpose(1, 2)


def keyframe_step(small: bool) -> Sides:
    """1.0: both predictions of one guided step."""
    size = SMALL if small else MIDDLE
    count = size.frames
    official_class = official_module("1.0", "model.unet").UNet
    arguments = _unet_arguments(size, num_channels=4, out_channels=4, num_frames=count)
    official = _randomise(official_class(**arguments))
    unet = _ours(official, UNet, unet_config, "1.0")
    x, context = torch.randn(2 * count, 4, size.side, size.side), torch.randn(2, TOKENS, CONTEXT)
    mask = torch.arange(TOKENS) < torch.tensor([[TOKENS // 2], [1]])
    time, positions = torch.full((2 * count,), 500.0), torch.arange(count).float() * (180 // count)
    condition = KeyframeCondition(context, mask, positions.expand(2, -1))
    videos = _as_videos(x, 2)
    spread = (part.repeat_interleave(count, dim=0) for part in (context, mask))
    arguments = (x, time, *spread, positions.repeat(2))
    return lambda: unet(videos, time[:2], condition), lambda: _as_videos(official(*arguments), 2)


def interpolation_step(small: bool) -> Sides:
    """1.1: both predictions of one guided step; the second has no keyframes and no temporal layers."""
    size = SMALL if small else MIDDLE
    count = size.frames
    official_class = official_module("1.1", "model.unet_interpolation").UNet
    extras = {"num_channels": 20, "out_channels": 12, "temporal_type": "conv1D"}
    official = _randomise(official_class(**_unet_arguments(size, **extras)))
    unet = _ours(official, InterpolationUNet, interpolation_config, "1.1")
    keyframes = torch.randn(2, 4, count + 1, size.side, size.side)
    keyframes[1] = 0
    groups, context = torch.randn(2, 12, count, size.side, size.side), torch.randn(2, TOKENS, CONTEXT)
    mask = torch.arange(TOKENS) < torch.tensor([[TOKENS // 2], [1]])
    time, skip, level = torch.full((2,), 500.0), torch.full((2,), 3), torch.zeros(2)
    condition = InterpolationCondition(keyframes, context, mask, skip, level, torch.tensor([True, False]))
    x = torch.cat((keyframes[:, :, :-1], groups, keyframes[:, :, 1:]), dim=1).transpose(1, 2).flatten(0, 1)
    time_, context_, mask_, skip_, level_, temporal_ = (
        part.repeat_interleave(count, dim=0) for part in (time, context, mask, skip, level, torch.tensor([1.0, 0.0]))
    )

    def theirs() -> Tensor:
        named = {"perturbation_time": level_, "skip_frames": skip_, "temporal_mask": temporal_}
        return _as_videos(official(x, time_, context_, mask_, num_predicted_groups=count, **named), 2)

    return lambda: unet(groups, time, condition), theirs


def movq_decode(small: bool, dtype: torch.dtype = torch.float32) -> Sides:
    """1.1: frames through `conv3_attn`; ours in `dtype`, the official code in 32 bits."""
    frames, side = (2, 8) if small else (8, 16)
    arguments = {
        "double_z": False,
        "z_channels": 4,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2] if small else [1, 2, 2, 4],
        "num_res_blocks": 1 if small else 2,
        "attn_resolutions": [32] if small else [8],
        "dropout": 0.0,
        "temporal": True,
        "temporal_attention_block": True,
    }
    official = _randomise(official_module("1.1", "movq").MoVQ(arguments))
    movq = _ours(official, MoVQ, movq_config, "1.1").to(dtype)
    latents = torch.randn(frames, 4, side, side)
    video = _as_videos(latents, 1).to(dtype)
    return lambda: movq.decode(video).float(), lambda: _as_videos(official.decode(latents), 1)  # type: ignore[operator]


def has_bf16() -> bool:
    """Whether this CPU multiplies in bf16."""
    flags = CPU_FLAGS.read_text() if CPU_FLAGS.is_file() else ""
    return "amx_bf16" in flags or "avx512_bf16" in flags


def official_cases() -> tuple[Case, ...]:
    """The cases that the work trees at hand allow."""
    found = work_trees()
    ours, theirs = "ours", "official code"
    cases: list[Case] = []
    if "1.0" in found:
        cases.append(Case("official 1.0 keyframe step", ours, theirs, keyframe_step, 1e-4, True))
    if "1.1" in found:
        cases.append(Case("official 1.1 interpolation step", ours, theirs, interpolation_step, 1e-4, True))
        cases.append(Case("official 1.1 decoder, conv3_attn", ours, theirs, movq_decode, 1e-4, True))
        if has_bf16():
            work = partial(movq_decode, dtype=torch.bfloat16)
            cases.append(Case("official 1.1 decoder, bf16", "ours in bf16", theirs, work, 2e-2, True))
    return tuple(cases)

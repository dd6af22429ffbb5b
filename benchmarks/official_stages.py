"""The stages whose cost matters, in the official code and in ours: same weights, same inputs, same outputs.

Each function gives (ours, official code) of one stage: a guided U-Net step with all its predictions, or the decoding of
a chunk of frames. Ours keeps what the steps of a stage have in common, as in a stage; the official code computes it in
every step. Sizes are in between on a CPU, so that a 2-core machine runs each in seconds, and full on a GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Sides
from fusionframes_core.checkpoints.architecture import interpolation_config, movq_config, unet_config
from fusionframes_core.checkpoints.checkpoint_info import identify
from fusionframes_core.models.layout import channels_last
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.stage_memo import StageMemo
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet

VARIABLE = "KANDINSKY_VIDEO_PATH"
PACKAGES = {"1.0": "video_kandinsky3", "1.1": "kandinsky_video"}
TOKENS = 32
# What the official utilities import and the networks do not use: stand-ins where it is not installed.
UNUSED: dict[str, tuple[str, ...]] = {
    "skimage.transform": ("resize",),
    "scipy.interpolate": ("interp1d",),
    "omegaconf": ("OmegaConf",),
}
# Last layers of the official residual branches. A trained network's branches add little to what they are added to;
# fresh ones add as much, and every rounding to 16 bits is then made larger by all the layers behind it.
BRANCH_ENDS = re.compile(
    r"(resnet_blocks\.3\.projection|temporal_resnet_blocks\.3\.2|output_layer|feed_forward\.2|proj_out|\.conv2)\.weight$"
)
BRANCH_SHARE = 0.02


@dataclass(frozen=True)
class Size:
    """How large a case is."""

    channels: int
    levels: int
    blocks: int
    context: int
    frames: int
    side: int  # of the latents
    movq_channels: int
    movq_mult: tuple[int, ...]
    movq_frames: int
    movq_side: int


MIDDLE = Size(128, 3, 2, 256, frames=6, side=32, movq_channels=32, movq_mult=(1, 2, 2, 4), movq_frames=8, movq_side=16)
SMALL = Size(64, 2, 2, 64, frames=3, side=8, movq_channels=32, movq_mult=(1, 2), movq_frames=2, movq_side=8)
FULL = Size(384, 4, 3, 4096, frames=16, side=64, movq_channels=256, movq_mult=(1, 2, 2, 4), movq_frames=8, movq_side=64)


@dataclass(frozen=True)
class Setting:
    """Where and in which types a stage runs."""

    size: Size
    device: str = "cpu"
    dtype: torch.dtype = torch.float32  # of ours
    official: torch.dtype = torch.float32  # of the official code's weights


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
    for module, names in UNUSED.items():
        _stand_in(module, names)
    return importlib.import_module(f"{package}.{name}")


def _stand_in(module: str, names: tuple[str, ...]) -> None:
    if module in sys.modules or importlib.util.find_spec(module.partition(".")[0]) is not None:
        return
    parent = ""
    for part in module.split("."):
        parent = f"{parent}.{part}".strip(".")
        sys.modules.setdefault(parent, types.ModuleType(parent))
    for name in names:
        setattr(sys.modules[module], name, None)


def unet_arguments(size: Size, **changes: Any) -> dict[str, Any]:
    attends = (False, *([True] * (size.levels - 1)))
    return {
        "model_channels": size.channels,
        "init_channels": size.channels // 2 if size.channels > 64 else size.channels,
        "time_embed_dim": 4 * size.channels if size.channels > 64 else 256,
        "context_dim": size.context,
        "dim_mult": tuple(2**level for level in range(size.levels)),
        "num_blocks": (size.blocks,) * size.levels,
        "add_cross_attention": attends,
        "add_self_attention": attends,
        **changes,
    }


@torch.no_grad()
def randomise(model: nn.Module) -> nn.Module:
    """No part is silent: what starts at zero (norms, merges) gets random values too; branches are a trained model's."""
    for name, parameter in model.named_parameters():
        if not parameter.any():
            parameter.fill_(0.3) if parameter.numel() == 1 else parameter.normal_(0, 0.01)
        if BRANCH_ENDS.search(name):
            parameter.mul_(BRANCH_SHARE)
    return model.eval()


def ours_from(official: nn.Module, kind: Callable[..., Any], config: Callable[..., Any], version: str | None) -> Any:
    """Our model with the official one's weights, architecture and names as the conversion reads them."""
    state = official.state_dict()
    names = identify({name: tuple(value.shape) for name, value in state.items()}).names
    model = kind(config({ours: tuple(state[theirs].shape) for ours, theirs in names.items()}, version), device="meta")
    model.load_state_dict({ours: state[theirs] for ours, theirs in names.items()}, strict=True, assign=True)
    return model.eval()


def as_videos(frames: Tensor, count: int) -> Tensor:
    """Official (count · T, C, h, w) to (count, C, T, h, w)."""
    return frames.unflatten(0, (count, -1)).transpose(1, 2)


def _sides(
    setting: Setting, models: tuple[nn.Module, nn.Module], ours: Callable[..., Tensor], theirs: Callable[..., Tensor]
) -> Sides:
    """Both models in their places and types; results in 32 bits. Half precision is autocast's there."""
    mine, official = models
    mine.to(setting.device, setting.dtype)
    if setting.device != "cpu":
        channels_last(mine)  # as loading a component does
    if setting.official != torch.float32 or setting.device != "cpu":
        official.to(setting.device, setting.official)

    def run_official() -> Tensor:
        half = setting.official != torch.float32
        with torch.autocast(setting.device, setting.official) if half else nullcontext():
            return theirs(official).float()

    return lambda: ours(mine).float(), run_official


def _texts(rows: int, setting: Setting) -> tuple[Tensor, Tensor]:
    """Random contexts (rows, N, D) and masks: a prompt of half the tokens, then empty ones."""
    lengths = torch.tensor([[TOKENS // 2], *([[1]] * (rows - 1))])
    context = torch.randn(rows, TOKENS, setting.size.context)
    return context.to(setting.device), (torch.arange(TOKENS) < lengths).to(setting.device)


def keyframe_step(version: str, setting: Setting) -> Sides:
    """All predictions of one guided step: two in 1.0, three in 1.1."""
    size, newer = setting.size, version == "1.1"
    count, rows = size.frames, 3 if newer else 2
    extras = {"num_channels": 9, "noise_augmentation": True, "motion_score": True} if newer else {
        "num_channels": 4, "num_frames": count}  # fmt: skip
    kind = official_module(version, "model.unet").UNet
    official = randomise(kind(**unet_arguments(size, out_channels=4, **extras)))
    models = ours_from(official, UNet, unet_config, version), official
    x = torch.randn(rows * count, extras["num_channels"], size.side, size.side).to(setting.device)
    context, mask = _texts(rows, setting)
    time = torch.full((rows * count,), 500.0, device=setting.device)
    positions = torch.arange(count, device=setting.device).float() * (1 if newer else 180 // count)
    levels: dict[str, Any] = {
        "motion_score": torch.full_like(time, 10.0),
        "noise_augmentation": torch.full_like(time, 20.0),
    }
    given = {name: value[:rows] for name, value in levels.items()} if newer else {}
    condition = KeyframeCondition(
        context.to(setting.dtype), mask, positions.expand(rows, -1), **given, memo=StageMemo()
    )
    videos = as_videos(x, rows).to(setting.dtype)
    spread = [part.repeat_interleave(count, dim=0) for part in (context, mask)]
    named = {"num_frames": count, "motion_score": levels["motion_score"]} if newer else {}
    named |= {"noise_aug_time": levels["noise_augmentation"]} if newer else {}
    return _sides(
        setting,
        models,
        lambda unet: unet(videos, time[:rows], condition),
        lambda unet: as_videos(unet(x, time, *spread, positions.repeat(rows), **named), rows),
    )


def interpolation_step(version: str, setting: Setting, **extras: Any) -> Sides:
    """Both predictions of one guided step; the second has no keyframes and, in 1.1, no temporal layers.

    `extras` are arguments of the official constructor.
    """
    size, newer = setting.size, version == "1.1"
    count = size.frames
    module = official_module(version, "model.unet_interpolation" if newer else "model.unet")
    extras |= {"temporal_type": "conv1D"} if newer else {"interpolation": True}
    official = randomise(module.UNet(**unet_arguments(size, num_channels=20, out_channels=12, **extras)))
    models = ours_from(official, InterpolationUNet, interpolation_config, version), official
    keyframes = torch.randn(2, 4, count + 1, size.side, size.side).to(setting.device)
    keyframes[1] = 0
    groups = torch.randn(2, 12, count, size.side, size.side).to(setting.device)
    context, mask = _texts(2, setting)
    time, skip = torch.full((2,), 500.0), torch.full((2,), 3)
    time, skip, level = (part.to(setting.device) for part in (time, skip, torch.zeros(2)))
    temporal = torch.tensor([True, not newer], device=setting.device)
    condition = InterpolationCondition(
        keyframes.to(setting.dtype), context.to(setting.dtype), mask, skip, level, temporal, memo=StageMemo()
    )
    x = torch.cat((keyframes[:, :, :-1], groups, keyframes[:, :, 1:]), dim=1).transpose(1, 2).flatten(0, 1)
    parts = (time, context, mask, skip, level, temporal.float())
    time_, context_, mask_, skip_, level_, temporal_ = (part.repeat_interleave(count, dim=0) for part in parts)
    named = {"skip_frames": skip_, "num_temporal_groups": count}
    if newer:
        named = {"skip_frames": skip_, "num_predicted_groups": count, "perturbation_time": level_}
        named |= {"temporal_mask": temporal_}
    mine = groups.to(setting.dtype)
    return _sides(
        setting,
        models,
        lambda unet: unet(mine, time, condition),
        lambda unet: as_videos(unet(x, time_, context_, mask_, **named), 2),
    )


def official_movq(version: str, size: Size) -> Any:
    """The official autoencoder: with the image decoder in 1.0, with `conv3_attn` in 1.1."""
    arguments = {
        "double_z": False,
        "z_channels": 4,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": size.movq_channels,
        "ch_mult": list(size.movq_mult),
        "num_res_blocks": 2,
        "attn_resolutions": [256 // 2 ** (len(size.movq_mult) - 1)],
        "dropout": 0.0,
    }
    if version == "1.1":
        arguments |= {"temporal": True, "temporal_attention_block": True}
    return official_module(version, "movq").MoVQ(arguments)


def movq_decode(version: str, setting: Setting) -> Sides:
    """A chunk of frames by either version's decoder."""
    size, newer = setting.size, version == "1.1"
    official = randomise(official_movq(version, size))
    models = ours_from(official, MoVQ, movq_config, version if newer else None), official
    latents = torch.randn(size.movq_frames, 4, size.movq_side, size.movq_side).to(setting.device)
    video = as_videos(latents, 1).to(setting.dtype)
    return _sides(setting, models, lambda movq: movq.decode(video), lambda movq: as_videos(movq.decode(latents), 1))


Stage = Callable[[str, Setting], Sides]
STAGES: dict[str, Stage] = {"keyframe step": keyframe_step, "interpolation step": interpolation_step}
STAGES |= {"decoder": movq_decode}

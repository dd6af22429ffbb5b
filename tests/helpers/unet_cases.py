"""Small U-Nets and inputs that the U-Net tests share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fusionframes_core.config import InterpolationConfig, UNetConfig
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition, interpolation_trunk
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet

IMAGE = UNetConfig(
    in_channels=4,
    out_channels=4,
    model_channels=16,
    init_channels=16,
    time_embed_dim=32,
    context_dim=24,
    groups=2,
    head_dim=8,
    expansion_ratio=2,
    compression_ratio=2,
    channel_mult=(1, 2),
    num_blocks=(2, 2),
    cross_attention=(False, True),
    self_attention=(True, True),
    temporal="none",
    temporal_conditioning="sum",
    temporal_place="none",
    image_input=False,
    motion_score=False,
    noise_augmentation=False,
)


def video_config(temporal: str, **changes: Any) -> UNetConfig:
    return replace(IMAGE, temporal=temporal, **changes)


def interpolation_config(**changes: Any) -> InterpolationConfig:
    official = InterpolationConfig(
        trunk=interpolation_trunk(IMAGE),
        temporal_merge="residual",
        temporal_attention=True,
        extra_temporal_convs=True,
        fixed_perturbation=None,
        text_pooling="after",
        base="zero",
    )
    return replace(official, **changes)


def randomise(model: nn.Module) -> nn.Module:
    """Random weights everywhere, so that no part is a hidden identity."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def image_unet() -> UNet:
    return randomise(UNet(IMAGE))


def condition(batch: int, frames: int | None = None, **changes: Any) -> KeyframeCondition:
    mask = torch.ones(batch, 5, dtype=torch.bool)
    mask[:, 3:] = False
    positions = None if frames is None else torch.arange(frames).float().expand(batch, -1)
    return KeyframeCondition(torch.randn(batch, 5, 24), mask, positions, **changes)


def group_condition(batch: int, groups: int, temporal: bool = True) -> InterpolationCondition:
    text = condition(batch)
    return InterpolationCondition(
        keyframes=torch.randn(batch, 4, groups + 1, 8, 6),
        context=text.context,
        mask=text.mask,
        skip_frames=torch.randint(1, 13, (batch,)),
        perturbation=torch.randint(0, 251, (batch,)).float(),
        temporal=torch.full((batch,), temporal),
    )


def frame_by_frame(unet: UNet, x: Tensor, t: Tensor, seen: KeyframeCondition) -> Tensor:
    """The image U-Net's output for every frame by itself."""
    return torch.cat([unet(x[:, :, i : i + 1], t, seen) for i in range(x.shape[2])], dim=2)


def close(a: Tensor, b: Tensor, tolerance: float = 2e-5) -> bool:
    """Equal up to float32 rounding, relative to the largest value."""
    return a.shape == b.shape and ((a - b).abs().max() <= tolerance * b.abs().max()).item()

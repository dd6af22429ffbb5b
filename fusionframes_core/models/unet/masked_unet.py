"""Masked Frame Interpolation (paper, appendix 10): the baseline that group interpolation is compared with.

The same trunk runs over all 4·G + 1 frames of the video instead of over its G groups: noisy frames, the keyframes in
their places with zeros between them, and a mask that says where they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...config import InterpolationConfig
from ...errors import named
from ..layers import TorchOperations
from ..temporal import initialise_temporal
from .interpolation_unet import GROUP_FRAMES, InterpolationCondition, InterpolationUNet, linear_blend
from .keyframe_unet import copy_weights
from .unet import UNet


def masked_config(config: InterpolationConfig) -> InterpolationConfig:
    """The configuration with the channels of appendix 10: 4 noisy + 4 given + 1 mask, to 4."""
    channels = config.trunk.out_channels // GROUP_FRAMES
    return dataclasses.replace(
        config, trunk=dataclasses.replace(config.trunk, in_channels=2 * channels + 1, out_channels=channels)
    )


def spread(keyframes: Tensor, present: Tensor) -> Tensor:
    """Keyframes (B, C, G+1, h, w) in every fourth place of zeros, and their mask: (B, C+1, 4G+1, h, w).

    `present` (B,) bool: False empties a video's mask, as for the unconditional half of context guidance.
    """
    batch, channels, count, height, width = keyframes.shape
    frames = keyframes.new_zeros(batch, channels + 1, (GROUP_FRAMES + 1) * (count - 1) + 1, height, width)
    frames[:, :channels, :: GROUP_FRAMES + 1] = keyframes
    frames[:, channels:, :: GROUP_FRAMES + 1] = present.to(keyframes.dtype).reshape(-1, 1, 1, 1, 1)
    return frames


def zero_video(keyframes: Tensor) -> Tensor:
    """Nothing is known beforehand: (B, C, G+1, h, w) to zeros (B, C, 4G+1, h, w)."""
    return torch.zeros_like(linear_blend(keyframes))


VIDEO_BASES: dict[str, Callable[[Tensor], Tensor]] = {"zero": zero_video, "blend": linear_blend}
"""What the diffused video is the difference from, as `GROUP_BASES` for groups."""


class MaskedInterpolationUNet(InterpolationUNet):
    """Predicts every frame of the video, the given ones too. `config` is that of the group U-Net it compares with."""

    def __init__(
        self,
        config: InterpolationConfig,
        operations: Any = TorchOperations,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(masked_config(config), operations, device, dtype)
        self.base = named(VIDEO_BASES, "base", config.base)

    def forward(self, x: Tensor, t: Tensor, condition: InterpolationCondition) -> Tensor:
        """Noisy video x (B, 4, 4G+1, h, w) at times t (B,), keyframes (B, 4, G+1, h, w): (B, 4, 4G+1, h, w)."""
        given = spread(condition.keyframes, condition.temporal)
        if given.shape[2] != x.shape[2]:
            raise ValueError(f"keyframes must be every fourth of the frames; got {condition.keyframes.shape[2]} "
                             f"for {x.shape[2]} frames")  # fmt: skip
        return self.predict(torch.cat((x, given), dim=1), t, condition)


def inflate_masked(image_unet: UNet, config: InterpolationConfig) -> MaskedInterpolationUNet:
    """Build it from a text-to-image U-Net: given frames and mask get zero weights, every α is zero."""
    parameter = next(image_unet.parameters())
    unet = MaskedInterpolationUNet(config, device=parameter.device, dtype=parameter.dtype)
    initialise_temporal(unet)
    copy_weights(image_unet, unet, except_for=("in_layer.weight",))
    with torch.no_grad():
        kernel = image_unet.in_layer.weight
        unet.in_layer.weight.zero_()
        unet.in_layer.weight[:, : kernel.shape[1]] = kernel
    return unet

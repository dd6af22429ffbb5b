"""From a text-to-image U-Net to a keyframe U-Net: inflation, and which parameters train (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...config import UNetConfig
from ..temporal import initialise_temporal, temporal_parameters
from .unet import UNet

FRAME_POSITIONS = ("spread", "index")


def frame_positions(name: str, num_frames: int, device: torch.device | str | None = None) -> Tensor:
    """Positions (T,) of the keyframes, float32: "spread" over 0..180 (official 1.0) or by "index" (1.1)."""
    if name not in FRAME_POSITIONS:
        raise ValueError(f"frame_positions must be one of {', '.join(FRAME_POSITIONS)}; got {name!r}")
    if num_frames < 1 or num_frames > 180:
        raise ValueError(f"num_frames must be from 1 to 180; got {num_frames}")
    positions = torch.arange(num_frames, device=device, dtype=torch.float32)
    # 1.0's code takes torch.arange(0, 180, 180 // T): its step is a whole number, rounded down
    return positions * (180 // num_frames) if name == "spread" else positions


def freeze_spatial(unet: nn.Module) -> None:
    """Only the temporal parts train; the text-to-image weights stay as they are (section 4.1)."""
    unet.requires_grad_(False)
    for _, parameter in temporal_parameters(unet):
        parameter.requires_grad_(True)


def copy_weights(source: nn.Module, target: nn.Module, except_for: Iterable[str] = ()) -> None:
    """Copy the image model's weights. ValueError names what does not fit; `target` may have more temporal parts."""
    state, own = source.state_dict(), target.state_dict()
    for name in except_for:
        state.pop(name, None)
    new = {name for name, _ in temporal_parameters(target)}
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    missing = sorted(set(own) - set(state) - new - set(except_for))
    if wrong or missing:
        raise ValueError(f"the image U-Net does not fit: wrong {wrong[:5]}, missing {missing[:5]}")
    target.load_state_dict(state, strict=False)


def inflate_keyframe(image_unet: UNet, config: UNetConfig) -> UNet:
    """A video U-Net with the image U-Net's weights and identity temporal parts, equal to it frame by frame.

    Additional input channels (1.1's conditioning frame and mask) get zero weights; the input layer for stills, if the
    image model has none, gets the same weights as the input layer.
    """
    parameter = next(image_unet.parameters())
    unet = UNet(config, device=parameter.device, dtype=parameter.dtype)
    initialise_temporal(unet)
    inputs = [f"{layer}.{name}" for layer in ("in_layer", "image_in_layer") for name in ("weight", "bias")]
    copy_weights(image_unet, unet, except_for=inputs)
    _pad_input(image_unet.in_layer, unet.in_layer)
    if unet.image_in_layer is not None:
        _pad_input(image_unet.image_in_layer or image_unet.in_layer, unet.image_in_layer)
    return unet


@torch.no_grad()
def _pad_input(source: Any, target: Any) -> None:
    target.weight.zero_()
    target.weight[:, : source.weight.shape[1]] = source.weight
    target.bias.copy_(source.bias)

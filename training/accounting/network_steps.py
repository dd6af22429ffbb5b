"""Each stage's step as the accounting runs it: the network that the stage trains, and one call of it with a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fusionframes_core.config import ModelConfig
from fusionframes_core.models.movq.movq import MoVQ
from fusionframes_core.models.temporal import temporal_parameters
from fusionframes_core.models.unet.interpolation_unet import GROUP_FRAMES, InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.settings import latent_size

from ..objectives.decoder_objective import VideoDecoder
from ..objectives.keyframe_start import choose_trained

LATENT = 4


@dataclass(frozen=True)
class NetworkStep:
    """A network and a call of it.

    `build` makes the network (inside `torch.device("meta")` it takes no memory), frozen as it trains; `loss(network,
    clips, device)` is a scalar of random clips. A clip has `frames`, and in all `positions` of latents.
    """

    name: str
    frames: int
    positions: int
    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, int, Any], Tensor]


@dataclass(frozen=True)
class ClipShape:
    """A clip's frames, its latents' height and width, and the number of tokens of its text."""

    frames: int
    height: int
    width: int
    tokens: int

    @classmethod
    def of(cls, config: ModelConfig, frames: int, size: tuple[int, int] | None = None) -> ClipShape:
        """Of a model's clips of `size` (height, width) in pixels; None: its own. The text is as long as it can be."""
        return cls(frames, *latent_size(config, size or config.size), config.text.max_tokens)


def keyframe_step(config: ModelConfig, shape: ClipShape, stills: bool = False, parts: str = "temporal") -> NetworkStep:
    """The keyframe stage: of `parts` what trains (`choose_trained`); with `stills` a still beside each clip."""

    def build() -> nn.Module:
        model = UNet(config.keyframe)
        choose_trained(model, parts)
        return model

    return NetworkStep("keyframes", shape.frames, _positions(shape), build, keyframe_loss(config, shape, stills))


def keyframe_loss(
    config: ModelConfig, shape: ClipShape, stills: bool = False
) -> Callable[[nn.Module, int, Any], Tensor]:
    """The loss of a keyframe U-Net on clips of a shape, and on a still of each."""
    unet = config.keyframe

    def loss(model: nn.Module, clips: int, device: Any) -> Tensor:
        x = torch.randn(clips, unet.in_channels, shape.frames, shape.height, shape.width, device=device)
        context, mask = _text(clips, shape.tokens, unet.context_dim, device)
        positions = torch.arange(float(shape.frames), device=device).expand(clips, -1)
        output = model(x, _times(clips, device), KeyframeCondition(context, mask, positions))
        found = _squared(output, x[:, : unet.out_channels])
        if not stills:
            return found
        still = x[:, :, :1]
        output = model(still, _times(clips, device), KeyframeCondition(context, mask, image=True))
        return found + _squared(output, still[:, : unet.out_channels])

    return loss


def interpolation_step(config: ModelConfig, shape: ClipShape) -> NetworkStep:
    """The interpolation stage: all of its U-Net trains, on windows of 4·G + 1 frames."""

    def build() -> nn.Module:
        return InterpolationUNet(config.interpolation)

    return NetworkStep("interpolation", shape.frames, _positions(shape), build, interpolation_loss(config, shape))


def interpolation_loss(config: ModelConfig, shape: ClipShape) -> Callable[[nn.Module, int, Any], Tensor]:
    """The loss of an interpolation U-Net on windows of a shape."""
    groups = (shape.frames - 1) // (GROUP_FRAMES + 1)

    def loss(model: nn.Module, clips: int, device: Any) -> Tensor:
        size = (shape.height, shape.width)
        x = torch.randn(clips, LATENT * GROUP_FRAMES, groups, *size, device=device)
        keyframes = torch.randn(clips, LATENT, groups + 1, *size, device=device)
        text = _text(clips, shape.tokens, config.interpolation.trunk.context_dim, device)
        number = _times(clips, device)
        everywhere = torch.ones(clips, dtype=torch.bool, device=device)
        condition = InterpolationCondition(keyframes, *text, number, number.float(), everywhere)
        return _squared(model(x, number, condition), x)

    return loss


def decoder_step(config: ModelConfig, frames: int, size: tuple[int, int], parts: str) -> NetworkStep:
    """The decoder stage: `parts` of the decoder train, "temporal" or the whole "decoder"; the encoder only runs."""

    def build() -> nn.Module:
        movq = MoVQ(config.movq).requires_grad_(False)
        chosen = temporal_parameters(movq) if parts == "temporal" else movq.decoder.named_parameters()
        for _, parameter in chosen:
            parameter.requires_grad_(True)
        return VideoDecoder(movq)

    def loss(model: nn.Module, clips: int, device: Any) -> Tensor:
        pixels = torch.randn(clips, 3, frames, *size, device=device)
        output, _ = model(pixels, torch.zeros(clips, device=device))
        return _squared(output, pixels)

    shape = ClipShape.of(config, frames, size)
    return NetworkStep("decoder", frames, _positions(shape), build, loss)


def with_network(step: NetworkStep, build: Callable[[], nn.Module]) -> NetworkStep:
    """The same call of a network that is built otherwise, such as one with adapters."""
    return replace(step, build=build)


def _positions(shape: ClipShape) -> int:
    return shape.frames * shape.height * shape.width


def _text(clips: int, tokens: int, width: int, device: Any) -> tuple[Tensor, Tensor]:
    context = torch.randn(clips, tokens, width, device=device)
    return context, torch.ones(clips, tokens, dtype=torch.bool, device=device)


def _times(clips: int, device: Any) -> Tensor:
    return torch.ones(clips, dtype=torch.long, device=device)


def _squared(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().flatten(1).mean(dim=1).mean()

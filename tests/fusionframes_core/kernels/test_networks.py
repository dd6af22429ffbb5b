"""Whole networks on the fused kernels give what they give on torch's own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.checkpoints.device_copies import PlainCopies
from fusionframes_core.checkpoints.streamed_layers import StreamedLayers
from fusionframes_core.config import UNetConfig
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.layout import channels_last
from fusionframes_core.models.movq.banded_decode import BandedDecoder
from fusionframes_core.models.stage_memo import StageMemo
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.presets import TINY
from tests.helpers.movq_cases import random_latents, random_movq

TRUNK: dict[str, Any] = {"model_channels": 16, "init_channels": 16, "time_embed_dim": 32, "context_dim": 24}
TRUNK |= {"groups": 2, "head_dim": 8, "channel_mult": (1, 2), "num_blocks": (2, 2)}
TRUNK |= {"cross_attention": (False, True), "self_attention": (False, True)}
pytestmark = pytest.mark.slow  # minutes in Triton's interpreter
TEXT = torch.randn(2, 5, 24), torch.ones(2, 5, dtype=torch.bool)
TIMES = torch.tensor([500, 300])


def small(config: UNetConfig, **changes: object) -> UNetConfig:
    return dataclasses.replace(config, **TRUNK, **changes)  # type: ignore[arg-type]


@torch.no_grad()
def shaken(network: nn.Module) -> nn.Module:
    """No parameter is zero or one, so that every part matters."""
    for parameter in network.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return network.eval().requires_grad_(False)


def check(network: nn.Module, work: Callable[[], Tensor], device: str) -> None:
    """`work` on the torch path, then on the kernels with the weights laid out for them."""
    with torch.no_grad():
        network.to(device)
        with fused_kernels(False):
            expected = work()
        channels_last(network)
        with fused_kernels(True):
            out = work()
    assert out.shape == expected.shape
    assert (out - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.mark.parametrize("temporal", ["conv1d_attn1d_blocks", "conv1d_attn1d_layers", "conv3d_attn1d_blocks"])
def test_keyframe_unet(temporal: str, device: str) -> None:
    unet = shaken(UNet(small(TINY.keyframe, temporal=temporal)))
    text, mask, times = (part.to(device) for part in (*TEXT, TIMES))
    seen = KeyframeCondition(text, mask, torch.arange(3.0, device=device).expand(2, -1))
    x = torch.randn(2, TINY.keyframe.in_channels, 3, 4, 4, device=device)
    check(unet, lambda: unet(x, times, seen), device)


class Poisoned(PlainCopies):
    """Main memory that holds no numbers: what is read of a block's weights before or after its work is wrong."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.numbers: dict[int, Tensor] = {}

    def pinned(self, host: Tensor) -> Tensor:
        empty = torch.full_like(host, math.nan)
        self.numbers[id(empty)] = host
        return empty

    def start(self, hosts: list[Tensor]) -> tuple[list[Tensor], Any]:
        return super().start([self.numbers[id(host)] for host in hosts])


def test_biases_that_go_past_streamed_blocks_outlive_their_weights(device: str) -> None:
    unet = shaken(UNet(small(TINY.keyframe, temporal="conv1d_attn1d_blocks"))).to(device)
    text, mask, times = (part.to(device) for part in (*TEXT, TIMES))
    seen = KeyframeCondition(text, mask, torch.arange(3.0, device=device).expand(2, -1), memo=StageMemo())
    x = torch.randn(2, TINY.keyframe.in_channels, 3, 4, 4, device=device)
    with torch.no_grad(), fused_kernels(True):
        expected = channels_last(unet)(x, times, seen)
        network = StreamedLayers(unet, torch.device(device), Poisoned(torch.device(device))).open()
        seen.memo = StageMemo()
        for _ in range(2):
            assert torch.equal(network(x, times, seen), expected)


@pytest.mark.parametrize("merge", ["convex", "residual"])
def test_interpolation_unet(merge: str, device: str) -> None:
    config = dataclasses.replace(TINY.interpolation, trunk=small(TINY.interpolation.trunk), temporal_merge=merge)
    unet = shaken(InterpolationUNet(config))
    text, mask, times = (part.to(device) for part in (*TEXT, TIMES))
    sees, skip = torch.tensor([True, False], device=device), torch.full((2,), 3, device=device)
    seen = InterpolationCondition(torch.randn(2, 4, 3, 4, 4, device=device), text, mask, skip, skip.float(), sees)
    x = torch.randn(2, 12, 2, 4, 4, device=device)
    check(unet, lambda: unet(x, times, seen), device)
    kept = x.clone()
    check(unet, lambda: unet(x, times, dataclasses.replace(seen, memo=StageMemo())), device)  # one video is not mixed
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("decoder", "attention_norm", "banded"),
    [
        ("image", "per_frame", False),
        ("conv2d_to_3d", "per_frame", False),
        ("conv3_attn", "first_frame", False),
        ("conv3_attn", "per_frame", True),
        ("resnet_attn", "per_frame", False),
        ("resnet_attn", "first_frame", True),
    ],
)
def test_decoder(decoder: str, attention_norm: str, banded: bool, device: str) -> None:
    movq = random_movq(decoder=decoder, attention_norm=attention_norm).requires_grad_(False)
    latents = random_latents(batch=1, frames=2).to(device)
    work = BandedDecoder(movq, portion=3000) if banded else movq
    check(movq, lambda: work.decode(latents), device)


def test_encoder(device: str) -> None:
    movq = random_movq().requires_grad_(False)
    pixels = torch.randn(1, 3, 2, 16, 24, device=device)
    check(movq, lambda: movq.encode(pixels), device)

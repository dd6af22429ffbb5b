"""What the steps of a stage have in common is computed once and changes no bit; switched-off videos cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fusionframes_core.models.stage_memo import StageMemo
from fusionframes_core.models.unet.interpolation_unet import InterpolationCondition, InterpolationUNet
from fusionframes_core.models.unet.merged_layers import MIXED
from fusionframes_core.models.unet.unet import KeyframeCondition, UNet
from fusionframes_core.models.unet.unet_blocks import AttentionPooling, CrossAttentionBlock
from fusionframes_core.sampling.guidance import GuidedModel, TextGuidance
from tests.helpers.unet_cases import interpolation_config, randomise, video_config

TIMES = (900, 500, 20)


def text(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 5, 24), torch.rand(batch, 5) < 0.8


def keyframe_case(**changes: Any) -> tuple[UNet, Tensor, KeyframeCondition]:
    temporal = changes.pop("temporal", "conv1d_attn1d_blocks")
    unet = randomise(UNet(video_config(temporal, **changes))).eval().requires_grad_(False)
    scores = {name: torch.tensor([3.0, 7.0]) for name in ("motion_score", "noise_augmentation") if changes.get(name)}
    return unet, torch.randn(2, 4, 3, 8, 4), KeyframeCondition(*text(2), torch.arange(3.0).expand(2, -1), **scores)


def interpolation_case(on: list[bool], **changes: Any) -> tuple[InterpolationUNet, Tensor, InterpolationCondition]:
    unet = randomise(InterpolationUNet(interpolation_config(**changes))).eval().requires_grad_(False)
    batch, level = len(on), torch.arange(float(len(on)))
    given = torch.randn(batch, 4, 3, 8, 4)
    seen = InterpolationCondition(given, *text(batch), torch.full((batch,), 3), level, torch.tensor(on))
    return unet, torch.randn(batch, 12, 2, 8, 4), seen


@torch.no_grad()
def steps(unet: nn.Module, x: Tensor, condition: Any) -> list[Tensor]:
    """Predictions at several times, under one condition."""
    return [unet(x, torch.full((len(x),), time, device=x.device), condition) for time in TIMES]


@pytest.mark.parametrize(
    "changes",
    [
        {"temporal_conditioning": "separate"},
        {"temporal_conditioning": "sum", "motion_score": True, "noise_augmentation": True},
        {"temporal_conditioning": "mixed", "temporal_place": "grid"},
        {"temporal": "conv3d_attn1d_blocks", "temporal_conditioning": "separate", "temporal_place": "grid"},
        {"temporal": "conv1d_attn1d_layers"},
    ],
)
def test_keyframes_keep_every_bit(changes: dict[str, Any]) -> None:
    unet, x, condition = keyframe_case(**changes)
    expected = steps(unet, x, condition)
    for found, wanted in zip(steps(unet, x, replace(condition, memo=StageMemo())), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("merge", ["residual", "convex"])
@pytest.mark.parametrize("on", [[True, True], [False, False]])
def test_interpolation_keeps_every_bit(on: list[bool], merge: str) -> None:
    unet, x, condition = interpolation_case(on, temporal_merge=merge)
    expected = steps(unet, x, condition)
    for found, wanted in zip(steps(unet, x, replace(condition, memo=StageMemo())), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("merge", ["residual", "convex"])
@pytest.mark.parametrize("on", [[True, False], [False, True], [True, False, True], [False, True, True]])
def test_only_the_informed_videos_are_mixed(on: list[bool], merge: str) -> None:
    unet, x, condition = interpolation_case(on, temporal_merge=merge)
    expected = steps(unet, x, condition)
    for found, wanted in zip(steps(unet, x, replace(condition, memo=StageMemo())), expected, strict=True):
        assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_switched_off_videos_cost_no_temporal_layers() -> None:
    def work(on: list[bool], memo: StageMemo | None) -> int:
        unet, x, condition = interpolation_case(on)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            unet(x, torch.tensor([500] * len(on)), replace(condition, memo=memo))
        return counter.get_total_flops()

    all_on, none, half = (work(on, StageMemo()) for on in ([True, True], [False, False], [True, False]))
    assert none < half < all_on
    assert half - none == pytest.approx((all_on - none) / 2)
    told = StageMemo()
    told.once(MIXED, lambda: [False, False])
    assert work([True, True], told) == none, "as the memo says, for devices that hold no numbers"
    assert work([True, False], None) == all_on, "without a memo α is multiplied by the mask"


def test_the_text_is_projected_once_in_a_stage() -> None:
    unet, x, condition = keyframe_case(temporal_conditioning="separate")
    reading = [part.attention for part in unet.modules() if isinstance(part, CrossAttentionBlock | AttentionPooling)]
    calls = []
    for layer in reading:
        layer.to_key.register_forward_hook(lambda *_: calls.append(1))
    guided = GuidedModel(unet, TextGuidance(2.0), [condition, replace(condition, context=-condition.context)])
    with torch.no_grad():
        for time in TIMES:
            guided(x, torch.full((2,), time))
    assert len(calls) == len(reading)
    with torch.no_grad():
        GuidedModel(unet, TextGuidance(2.0), [condition, condition], joint=False)(x, torch.full((2,), 500))
    assert len(calls) == 3 * len(reading), "another stage, whose predictions run one after the other"


def test_gradients_take_nothing_from_a_memo() -> None:
    unet, x, condition = keyframe_case()
    unet.requires_grad_(True)
    memo = StageMemo()
    steps(unet, x, replace(condition, memo=memo))
    unet(x, torch.tensor([500, 500]), replace(condition, memo=memo)).square().mean().backward()
    assert all(parameter.grad is not None for name, parameter in unet.named_parameters() if "to_key" in name)


def on_meta(condition: Any, memo: StageMemo) -> Any:
    """The same condition without numbers."""
    values = {place.name: getattr(condition, place.name) for place in fields(condition)}
    moved = {name: value.to("meta") if isinstance(value, Tensor) else value for name, value in values.items()}
    return type(condition)(**moved | {"memo": memo})


@pytest.mark.parametrize("make", [keyframe_case, lambda: interpolation_case([True, False], temporal_merge="convex")])
def test_shapes_alone_pass_through(make: Callable[[], tuple[nn.Module, Tensor, Any]]) -> None:
    """On the meta device, which has no numbers, and on which memory is counted."""
    unet, x, condition = make()
    seen = on_meta(condition, StageMemo())
    (found,) = {step.shape for step in steps(unet.to("meta"), x.to("meta"), seen)}
    assert found == steps(make()[0], x, condition)[0].shape


def test_shapes_alone_are_counted_as_mixed_in_part() -> None:
    """Where a memo already says which videos are mixed, the meta device leaves out the others' work too."""
    unet, x, condition = interpolation_case([True, False], temporal_merge="convex")
    unet.to("meta")

    def work(memo: StageMemo) -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(x.to("meta"), torch.full((2,), 500, device="meta"), on_meta(condition, memo))
        return counter.get_total_flops()

    known = StageMemo()
    known.once(MIXED, lambda: [True, False])
    assert work(known) < work(StageMemo())

"""Laws of Masked Frame Interpolation (paper, appendix 10)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fusionframes_core.models.text_encoder import TextContext
from fusionframes_core.models.unet.interpolation_unet import InterpolationUNet
from fusionframes_core.models.unet.masked_unet import MaskedInterpolationUNet, inflate_masked, spread
from fusionframes_core.models.unet.unet import KeyframeCondition
from fusionframes_core.presets import TINY
from fusionframes_core.sampling.interpolation_sampling import interpolate
from fusionframes_core.sampling.masked_sampling import interpolate_masked
from fusionframes_core.sampling.noise import stage_noise
from fusionframes_core.sampling.options import ContextPair, InterpolationOptions, SamplingOptions
from fusionframes_core.sampling.stage_sampler import StageSampler
from tests.helpers.unet_cases import close, frame_by_frame, group_condition, image_unet, interpolation_config, randomise


def test_spread_puts_keyframes_and_mask_in_every_fourth_place() -> None:
    keyframes = torch.randn(2, 4, 3, 2, 2)
    frames = spread(keyframes, torch.tensor([True, False]))
    assert frames.shape == (2, 5, 9, 2, 2)
    assert torch.equal(frames[:, :4, ::4], keyframes)
    between = [place for place in range(9) if place % 4]
    assert frames[:, :, between].abs().max() == 0
    assert torch.equal(frames[0, 4, ::4], torch.ones(3, 2, 2))
    assert frames[1, 4].abs().max() == 0


@torch.no_grad()
def test_freshly_inflated_is_the_image_model_on_every_frame() -> None:
    """Given frames, mask and time change nothing before training."""
    image = image_unet()
    unet = inflate_masked(image, interpolation_config())
    x, t, seen = torch.randn(2, 4, 9, 8, 6), torch.tensor([5, 800]), group_condition(2, 2)
    assert close(unet(x, t, seen), frame_by_frame(image, x, t, KeyframeCondition(seen.context, seen.mask)))


@torch.no_grad()
def test_a_trained_one_looks_at_mask_keyframes_and_neighbours() -> None:
    unet = randomise(MaskedInterpolationUNet(interpolation_config()))
    x, t, seen = torch.randn(1, 4, 9, 8, 6), torch.tensor([500]), group_condition(1, 2)
    out = unet(x, t, seen)
    assert out.shape == x.shape
    moved = x.clone()
    moved[:, :, 0] += 1
    assert (unet(moved, t, seen) - out)[:, :, 1].abs().max() > 1e-4  # the temporal layers reach the next frame
    assert (unet(x, t, replace(seen, keyframes=seen.keyframes + 1)) - out).abs().max() > 1e-4
    alone = unet(x, t, replace(seen, temporal=torch.zeros(1, dtype=torch.bool)))
    assert (alone - out).abs().max() > 1e-4


def test_wrong_number_of_frames_is_refused() -> None:
    unet = MaskedInterpolationUNet(interpolation_config())
    with pytest.raises(ValueError, match="keyframes must be every fourth of the frames; got 3 for 8 frames"):
        unet(torch.randn(1, 4, 8, 8, 6), torch.tensor([5]), group_condition(1, 2))


@torch.inference_mode()
def test_sampling_keeps_the_given_frames() -> None:
    """The same call as for groups, other network: 3 frames become 9, the given ones bit for bit."""
    torch.manual_seed(0)
    frames = torch.rand(1, 4, 3, 8, 8) - 0.5
    width = TINY.text.context_dim
    null = TextContext(torch.zeros(1, 4, width), torch.ones(1, 4, dtype=torch.bool))
    options = SamplingOptions(steps=2, guidance=0.25)
    results = []
    for function, kind in ((interpolate_masked, MaskedInterpolationUNet), (interpolate, InterpolationUNet)):
        unet = kind(TINY.interpolation).eval()
        sampler = StageSampler(TINY.interpolation_schedule, options, stage_noise(3, "interpolation", 1, "cpu"))
        results.append(function(unet, frames, ContextPair(null, null), InterpolationOptions(), sampler, True))
        assert results[-1].shape == (1, 4, 9, 8, 8)
        assert torch.equal(results[-1][:, :, ::4], frames)
        assert results[-1].isfinite().all()
    assert (results[0] - results[1]).abs().max() > 1e-3


@torch.no_grad()
def test_groups_cost_a_quarter_of_the_frames() -> None:
    """16 → 61 frames, same trunk: at least 3.5 times fewer FLOPs, and parameters within 1 %."""
    counts, sizes = [], []
    for kind, shape in ((InterpolationUNet, (1, 12, 15, 8, 8)), (MaskedInterpolationUNet, (1, 4, 61, 8, 8))):
        unet = kind(TINY.interpolation, device="meta").requires_grad_(False)
        condition = group_condition(1, 15)
        meta = replace(
            condition,
            keyframes=torch.empty(1, 4, 16, 8, 8, device="meta"),
            context=torch.empty(1, 24, 128, device="meta"),
            mask=torch.empty(1, 24, dtype=torch.bool, device="meta"),
            skip_frames=condition.skip_frames.to("meta"),
            perturbation=condition.perturbation.to("meta"),
            temporal=condition.temporal.to("meta"),
        )
        with FlopCounterMode(display=False) as counter:
            unet(torch.empty(shape, device="meta"), torch.empty(1, device="meta"), meta)
        counts.append(counter.get_total_flops())
        sizes.append(sum(p.numel() for p in unet.parameters()))
    print(f"FLOPs {counts[1] / counts[0]:.2f} times as many, parameters {sizes[1] / sizes[0]:.4f}")
    assert counts[1] >= 3.5 * counts[0]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.01)

"""A bias that goes past a convolution over time gives what adding it first gives, at every border."""

from __future__ import annotations

import pytest
import torch

from fusionframes_core.kernels.elementwise import place_bias
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.casting import CastConv3d
from fusionframes_core.models.edge_bias import behind_bias, carries_bias
from fusionframes_core.models.layers import Conv3d
from fusionframes_core.models.layout import fold_frames, over_time_without_bias
from fusionframes_core.models.stage_memo import StageMemo

KERNELS = ((3, 1, 1), (3, 3, 3))
EXTENTS = ((1, 1, 1), (2, 2, 5), (5, 3, 2), (4, 6, 7), (3, 1, 4))


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("extent", EXTENTS)
@torch.no_grad()
def test_it_is_what_adding_the_bias_first_gives(
    extent: tuple[int, int, int], kernel: tuple[int, int, int], own: bool
) -> None:
    layer = Conv3d(6, 5, kernel, padding=tuple(side // 2 for side in kernel), bias=own)
    x, bias = torch.randn(2, 6, *extent), torch.randn(6)
    exact = layer.double()(x.double() + bias.double()[:, None, None, None])
    out, edges = behind_bias(layer.float(), x, bias)
    assert edges.shape == (extent[0], *(min(size, 3) if kernel[1] > 1 else 1 for size in extent[1:]), 5)
    frames = fold_frames(out)
    torch.testing.assert_close((frames + place_bias(edges, frames)).double(), fold_frames(exact), rtol=0, atol=3e-6)


@torch.no_grad()
def test_weights_of_8_bits_and_another_type() -> None:
    layer = CastConv3d(6, 5, (3, 3, 3), padding=1, dtype=torch.bfloat16)
    x, bias = torch.randn(4, 6, 5, 4), torch.randn(6)
    out, edges = over_time_without_bias(layer, x, 2, bias)
    expected, behind = over_time_without_bias(layer, x + bias[:, None, None], 2)
    assert behind is None
    torch.testing.assert_close(out + place_bias(edges, out), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_stage_works_it_out_once() -> None:
    layer, memo = Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0)), StageMemo()
    bias = torch.randn(6)
    first, again = (behind_bias(layer, torch.randn(1, 6, 4, 2, 2), bias, memo)[1] for _ in range(2))
    assert again is first
    longer = behind_bias(layer, torch.randn(1, 6, 5, 2, 2), bias, memo)[1]
    assert longer.shape == (5, 1, 1, 5), "of another length anew"


def test_who_carries_a_bias() -> None:
    x = torch.randn(1, 6, 2, 4, 4)
    layer = Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0)).requires_grad_(False)
    assert not carries_bias(layer, x), "on a CPU it is added"
    with fused_kernels(True):
        assert carries_bias(layer, x)
        assert not carries_bias(layer, x.double())
        assert not carries_bias(Conv3d(6, 5, (3, 1, 1)).requires_grad_(False), x), "no padding"
        assert not carries_bias(Conv3d(6, 5, 1).requires_grad_(False), x)
        assert not carries_bias(torch.nn.Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0)).requires_grad_(False), x)
        layer.register_forward_hook(lambda _, inputs, out: out + 1)
        assert not carries_bias(layer, x), "a hook changes what it gives"

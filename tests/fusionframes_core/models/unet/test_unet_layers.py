"""Laws of the layers that the U-Nets' blocks are made of."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from fusionframes_core.models.layers import LayerFactory
from fusionframes_core.models.unet.temporal_layers import TEMPORAL_BLOCKS
from fusionframes_core.models.unet.unet_layers import (
    GRID_FEATURES,
    Attention,
    ConditionalGroupNorm,
    UNetSpec,
    grid_features,
    sinusoidal,
)
from tests.helpers.unet_cases import IMAGE, close

SPEC = UNetSpec(IMAGE, LayerFactory(), TEMPORAL_BLOCKS["none"])


def test_one_row_per_video_equals_the_row_repeated_per_frame() -> None:
    norm = ConditionalGroupNorm(16, SPEC)
    x, embedding = torch.randn(6, 16, 4, 4), torch.randn(2, 32)
    assert close(norm(x, embedding), norm(x, embedding.repeat_interleave(3, dim=0)))


def test_neutral_norm_is_group_norm() -> None:
    norm = ConditionalGroupNorm(16, SPEC)
    nn.init.zeros_(norm.modulation.weight)
    nn.init.zeros_(norm.modulation.bias)
    x = torch.randn(6, 16, 4, 4)
    assert close(norm(x, torch.randn(2, 32)), nn.functional.group_norm(x, 2))


def test_norm_takes_statistics_per_frame() -> None:
    norm, embedding = ConditionalGroupNorm(16, SPEC), torch.randn(1, 32)
    x = torch.randn(3, 16, 4, 4)
    changed = torch.cat((x[:2], torch.randn(1, 16, 4, 4)))
    assert torch.equal(norm(x, embedding)[:2], norm(changed, embedding)[:2])


def test_masked_tokens_do_not_reach_attention() -> None:
    attention = Attention(16, 16, 24, SPEC)
    x, context = torch.randn(2, 7, 16), torch.randn(2, 5, 24)
    mask = torch.tensor([True, True, False, True, False])[None, None, None].expand(2, 1, 1, 5)
    other = context.clone()
    other[:, [2, 4]] += 10
    assert torch.equal(attention(x, context, mask), attention(x, other, mask))
    assert close(attention(x, context, mask), attention(x, context[:, [0, 1, 3]]))


def test_sinusoid_of_zero_and_of_one() -> None:
    values = sinusoidal(torch.tensor([0, 1]), 8)
    assert torch.equal(values[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    frequencies = torch.tensor([1.0, 1e-4 ** (1 / 3), 1e-4 ** (2 / 3), 1e-4])
    assert torch.allclose(values[1], torch.cat((frequencies.sin(), frequencies.cos())))


def test_widths_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="groups must divide every width of the U-Net; got 2 and 17"):
        ConditionalGroupNorm(17, SPEC)
    with pytest.raises(ValueError, match="head_dim must divide every attention width; got 7 and 16"):
        Attention(16, 16, 16, replace(SPEC, config=replace(IMAGE, head_dim=7)))


def test_grid_features_depend_on_the_place_alone() -> None:
    small, large = (grid_features(size, size, torch.zeros(1)) for size in (4, 12))
    assert small.shape == (16, GRID_FEATURES)
    middle_of_thirds = large.unflatten(0, (12, 12))[1::3, 1::3].flatten(0, 1)  # 12 = 3·4: the same coordinates
    torch.testing.assert_close(middle_of_thirds, small)
    assert torch.cdist(large, large).add(torch.eye(144)).min() > 0.1  # no two places look alike

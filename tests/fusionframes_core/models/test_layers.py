"""Laws of the layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.models.layers import (
    PLACE_FEATURES,
    Alpha,
    Conv3d,
    Maker,
    TorchOperations,
    add_scaled,
    blend,
    place_features,
    plus,
    silu,
    sinusoidal,
    to_frames,
    to_tokens,
)
from tests.helpers.unet_cases import IMAGE, close

MAKE = Maker(IMAGE, TorchOperations, None, None)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("channels_last", [False, True])
def test_convolution_over_time_is_torchs_in_value_and_gradient(kernel: int, channels_last: bool) -> None:
    ours = Conv3d(6, 5, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
    theirs = nn.Conv3d(6, 5, (kernel, 1, 1), padding=(kernel // 2, 0, 0))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 6, 3, 2).transpose(1, 2) if not channels_last else torch.randn(2, 4, 3, 2, 6).movedim(4, 1)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = ours(a), theirs(b)
    assert close(out, expected)
    weight = torch.randn_like(expected)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert close(a.grad, b.grad)
    assert close(ours.weight.grad, theirs.weight.grad)
    assert close(ours.bias.grad, theirs.bias.grad)


@pytest.mark.parametrize(
    ("kernel", "options"),
    [((3, 3, 3), {"padding": 1}), ((3, 1, 1), {"stride": (2, 1, 1)}), ((3, 1, 1), {"padding": (1, 1, 1)})],
)
def test_other_convolutions_stay_torchs(kernel: tuple[int, ...], options: dict) -> None:
    ours, theirs = Conv3d(3, 4, kernel, **options), nn.Conv3d(3, 4, kernel, **options)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 5, 4, 4)
    assert close(ours(x), theirs(x))


def test_one_row_per_video_equals_the_row_repeated_per_frame() -> None:
    norm = MAKE.norm(16)
    x, embedding = torch.randn(6, 16, 4, 4), torch.randn(2, 32)
    assert close(norm(x, embedding), norm(x, embedding.repeat_interleave(3, dim=0)))


def test_neutral_norm_is_group_norm() -> None:
    norm = MAKE.norm(16)
    nn.init.zeros_(norm.modulation.weight)
    nn.init.zeros_(norm.modulation.bias)
    x = torch.randn(6, 16, 4, 4)
    assert close(norm(x, torch.randn(2, 32)), nn.functional.group_norm(x, 2))


def test_norm_takes_statistics_per_frame() -> None:
    norm, embedding = MAKE.norm(16), torch.randn(1, 32)
    x = torch.randn(3, 16, 4, 4)
    changed = torch.cat((x[:2], torch.randn(1, 16, 4, 4)))
    assert torch.equal(norm(x, embedding)[:2], norm(changed, embedding)[:2])


def test_masked_tokens_do_not_reach_attention() -> None:
    attention = MAKE.attention(16, 16, 24)
    x, context = torch.randn(2, 7, 16), torch.randn(2, 5, 24)
    mask = torch.tensor([True, True, False, True, False])[None, None, None].expand(2, 1, 1, 5)
    other = context.clone()
    other[:, [2, 4]] += 10
    assert torch.equal(attention(x, context, mask), attention(x, other, mask))
    assert close(attention(x, context, mask), attention(x, context[:, [0, 1, 3]]))


def test_tokens_and_frames_are_inverse_and_free() -> None:
    x = torch.randn(3, 5, 4, 2).contiguous(memory_format=torch.channels_last)
    tokens = to_tokens(x)
    assert torch.equal(to_frames(tokens, 4, 2), x)
    assert tokens.data_ptr() == x.data_ptr()
    assert to_frames(tokens, 4, 2).data_ptr() == x.data_ptr()


def test_sinusoid_of_zero_and_of_one() -> None:
    values = sinusoidal(torch.tensor([0, 1]), 8)
    assert torch.equal(values[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    frequencies = torch.tensor([1.0, 1e-4 ** (1 / 3), 1e-4 ** (2 / 3), 1e-4])
    assert torch.allclose(values[1], torch.cat((frequencies.sin(), frequencies.cos())))


def test_silu_keeps_its_input_while_gradients_are_recorded() -> None:
    x = torch.randn(4, requires_grad=True)
    before = x.detach().clone()
    assert torch.equal(silu(x), nn.functional.silu(before))
    assert torch.equal(x, before)


def test_alpha_starts_at_zero_and_follows_its_input() -> None:
    alpha = Alpha()
    assert alpha.weight.shape == (1,)
    assert alpha.bias is None
    assert alpha(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert alpha(torch.ones(2)).item() == 0


def test_widths_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="groups must divide every width of the U-Net; got 2 and 17"):
        MAKE.norm(17)
    with pytest.raises(ValueError, match="head_dim must divide every attention width; got 7 and 16"):
        replace(MAKE, config=replace(IMAGE, head_dim=7)).attention(16, 16, 16)


def test_place_features_depend_on_the_place_alone() -> None:
    small, large = (place_features(size, size, torch.zeros(1)) for size in (4, 12))
    assert small.shape == (16, PLACE_FEATURES)
    middle_of_thirds = large.unflatten(0, (12, 12))[1::3, 1::3].flatten(0, 1)  # 12 = 3·4: the same coordinates
    torch.testing.assert_close(middle_of_thirds, small)
    assert torch.cdist(large, large).add(torch.eye(144)).min() > 0.1  # no two places look alike


@pytest.mark.parametrize(
    "combine", [plus, *(lambda x, y, how=how: how(x, y, torch.tensor(0.3)) for how in (blend, add_scaled))]
)
def test_results_take_the_place_of_fresh_operands_only_without_gradients(
    combine: Callable[[Tensor, Tensor], Tensor],
) -> None:
    x, fresh = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    watched = fresh.clone().requires_grad_(True)
    expected = combine(x, watched)
    assert torch.equal(watched.detach(), fresh)
    elsewhere = fresh.to(memory_format=torch.channels_last)
    assert combine(x, elsewhere).stride() == x.stride()
    assert torch.equal(elsewhere, fresh)
    result = combine(x, fresh)
    assert result.data_ptr() == fresh.data_ptr()
    torch.testing.assert_close(result, expected.detach())

"""Laws of the layers that every model takes from its namespace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionframes_core.models.layers import Alpha, Conv3d
from tests.helpers.unet_cases import close


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


def test_alpha_starts_at_zero_and_follows_its_input() -> None:
    alpha = Alpha()
    assert alpha.weight.shape == (1,)
    assert alpha.bias is None
    assert alpha(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert alpha(torch.ones(2)).item() == 0

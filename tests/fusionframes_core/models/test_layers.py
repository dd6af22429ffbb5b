"""Laws of the layers that every model takes from its namespace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.casting import CastConv2d
from fusionframes_core.models.layers import Alpha, Conv2d, Conv3d, without_bias
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


LAYERS = {
    "conv2d": (Conv2d(6, 5, 3, padding=1), torch.randn(2, 6, 4, 5)),
    "conv3d": (Conv3d(6, 5, (3, 1, 1), padding=(1, 0, 0)), torch.randn(1, 6, 4, 3, 2)),
    "cast": (CastConv2d(6, 5, 3, dtype=torch.bfloat16), torch.randn(2, 6, 4, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_bias_that_is_left_out_is_handed_over(name: str) -> None:
    layer, x = LAYERS[name]
    expected = layer(x)
    out, bias = without_bias(layer, x)
    assert bias is None, "on a CPU the layer adds it"
    assert torch.equal(out, expected)
    with fused_kernels(True):
        out, bias = without_bias(layer, x)
    assert bias is not None
    assert bias.dtype == x.dtype
    assert close(out + bias.reshape(-1, *[1] * (x.ndim - 2)), expected)


@torch.no_grad()
def test_what_a_hook_changes_is_not_passed_by() -> None:
    """A hook, or a host's own forward in the layer's place."""
    hooked, replaced, x = Conv2d(6, 5, 3), Conv2d(6, 5, 3), torch.randn(2, 6, 4, 5)
    hooked.register_forward_hook(lambda _, inputs, out: out + 1)
    own = replaced.forward
    replaced.forward = lambda x: own(x) + 1
    for layer in (hooked, replaced):
        with fused_kernels(True):
            out, bias = without_bias(layer, x)
        assert bias is None
        assert torch.equal(out, layer(x))


@pytest.mark.parametrize("layer", [Conv2d(6, 5, 1), Conv3d(6, 5, (1, 1, 1))])
@torch.no_grad()
def test_pointwise_convolutions_are_products_and_keep_their_bias(layer: nn.Module) -> None:
    x = torch.randn(2, 6, 4, 5, 3)[..., : 1 if isinstance(layer, Conv2d) else 3]
    x = x.squeeze(-1)
    expected = layer(x)
    with fused_kernels(True):
        out, bias = without_bias(layer, x)
    assert bias is None
    assert close(out, expected)
    assert out.movedim(1, -1).is_contiguous(), "channels-last"


def test_alpha_starts_at_zero_and_follows_its_input() -> None:
    alpha = Alpha()
    assert alpha.weight.shape == (1,)
    assert alpha.bias is None
    assert alpha(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    assert alpha(torch.ones(2)).item() == 0

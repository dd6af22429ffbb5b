"""Laws of products that add themselves to an activation, and of biases that go past blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.models.casting import CastConv2d, CastLinear
from fusionframes_core.models.layers import Conv2d, Conv3d, Linear
from fusionframes_core.models.pending_bias import add_product, convolved, joined

FRESH, BIAS = torch.randn(2, 6, 4, 3), torch.randn(5)
LAYERS: dict[str, Callable[[bool], nn.Module]] = {
    "conv2d": lambda bias: Conv2d(6, 5, 1, bias=bias),
    "conv3d": lambda bias: Conv3d(6, 5, (1, 1, 1), bias=bias),
    "linear": lambda bias: Linear(6, 5, bias=bias),
    "cast conv2d": lambda bias: CastConv2d(6, 5, 1, bias=bias, dtype=torch.bfloat16),
    "cast linear": lambda bias: CastLinear(6, 5, bias=bias, dtype=torch.bfloat16),
}


def activation() -> Tensor:
    return torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last)


def exact(x: Tensor, layer: nn.Module) -> Tensor:
    weight, bias = layer.get_parameter("weight").double().flatten(1), layer.bias
    out = x.double() + torch.einsum("nchw,dc->ndhw", FRESH.double(), weight)
    return out if bias is None else out + bias.double()[:, None, None]


def whole(x: Tensor, bias: Tensor | None) -> Tensor:
    return x.double() if bias is None else x.double() + bias.double()[:, None, None]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("pending", [None, BIAS])
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_product_adds_itself_to_what_nobody_holds(name: str, pending: Tensor | None, own: bool, fused: bool) -> None:
    layer, x = LAYERS[name](own), activation()
    expected = whole(exact(x, layer), pending)
    with fused_kernels(fused):
        out, bias = add_product(x, layer, FRESH, pending)
    torch.testing.assert_close(whole(out, bias), expected, rtol=0, atol=3e-6)
    assert (out.data_ptr() == x.data_ptr()) == fused


def test_a_checkpoint_may_hold_the_activation() -> None:
    """Where gradients are recorded, though nothing here needs one, it is computed again from what it was."""
    x = activation()
    kept = x.clone()
    for layer in (Linear(6, 5), Conv2d(6, 5, 1)):
        with fused_kernels(True):
            out, bias = add_product(x, layer.requires_grad_(False), FRESH)
        torch.testing.assert_close(whole(out, bias), exact(x, layer), rtol=0, atol=3e-6)
        assert torch.equal(x, kept)
    with fused_kernels(True):
        convolved(Conv2d(5, 4, 3, padding=1).requires_grad_(False), x, BIAS)
    assert torch.equal(x, kept)


@torch.no_grad()
def test_another_type_is_not_written_over() -> None:
    """A host's attention may give one; the sum is then of the wider type, as torch's is."""
    layer, x = Linear(6, 5), activation().bfloat16()
    with fused_kernels(True):
        out, bias = add_product(x, layer, FRESH)
    torch.testing.assert_close(whole(out, bias), exact(x, layer), rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_lies_otherwise_is_not_written_over() -> None:
    layer, x = Conv2d(6, 5, 1), activation().contiguous()
    kept = x.clone()
    with fused_kernels(True):
        out, bias = add_product(x, layer, FRESH)
    torch.testing.assert_close(whole(out, bias), exact(x, layer), rtol=0, atol=3e-6)
    assert torch.equal(x, kept)


def test_gradients_keep_the_activation() -> None:
    layer, x = Conv2d(6, 5, 1), activation()
    kept = x.clone()
    with fused_kernels(True):
        out, bias = add_product(x, layer, FRESH)
    assert bias is None
    assert torch.equal(x, kept)
    out.sum().backward()
    assert layer.weight.grad is not None


@torch.no_grad()
def test_a_product_keeps_what_a_hook_or_another_forward_adds() -> None:
    hooked, replaced = Conv2d(6, 5, 1, bias=False), Linear(6, 5)
    hooked.register_forward_hook(lambda _, inputs, out: out + 1)
    own = replaced.forward
    replaced.forward = lambda x: own(x) + 1
    for layer in (hooked, replaced):
        x = activation()
        expected = exact(x, layer) + 1
        with fused_kernels(True):
            out, bias = add_product(x, layer, FRESH)
        torch.testing.assert_close(whole(out, bias), expected, rtol=0, atol=3e-6)


CONVOLUTIONS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "1×1": (lambda: Conv2d(5, 7, 1), True),
    "halving": (lambda: Conv2d(5, 7, 2, stride=2), True),
    "halving, cast": (lambda: CastConv2d(5, 7, 2, stride=2, dtype=torch.bfloat16), True),
    "3×3": (lambda: Conv2d(5, 7, 3, padding=1), False),
    "doubling": (lambda: nn.ConvTranspose2d(5, 7, 2, stride=2), False),
}


@pytest.mark.parametrize("pending", [None, BIAS])
@pytest.mark.parametrize("name", CONVOLUTIONS)
@torch.no_grad()
def test_a_bias_goes_past_a_convolution_without_padding_and_is_added_before_others(
    name: str, pending: Tensor | None
) -> None:
    make, past = CONVOLUTIONS[name]
    layer, x = make(), activation()
    expected, kept = layer(whole(x, pending).float()).double(), x.clone()
    with fused_kernels(True):
        out, bias = convolved(layer, x, pending)
    torch.testing.assert_close(whole(out, bias), expected, rtol=0, atol=1e-5)
    assert torch.equal(x, kept) == (past or pending is None)


def test_biases_are_added_in_float32_and_no_layers_own_is_kept() -> None:
    one, small = torch.ones(3, dtype=torch.bfloat16), torch.full((3,), 2.0**-12, dtype=torch.bfloat16)
    assert joined(None, None) is None
    assert joined(one, None) is one
    own = one.float()
    alone = joined(None, own)
    assert alone is not None
    assert alone.data_ptr() != own.data_ptr(), "the layer's own may go"
    total = joined(one, small)
    assert total is not None
    assert total.tolist() == [1 + 2.0**-12] * 3

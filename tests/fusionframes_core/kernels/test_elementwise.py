"""Sums and merges with a bias in the same pass against float64, and where their results lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fusionframes_core.kernels.elementwise import add_scaled, blend, plus
from fusionframes_core.kernels.kernel_choice import fused_kernels

RULES: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "plus": (lambda x, fresh, weight, bias: plus(x, fresh, bias), lambda x, fresh, weight: x + fresh),
    "blend": (blend, lambda x, fresh, weight: (1 - weight) * x + weight * fresh),
    "add_scaled": (add_scaled, lambda x, fresh, weight: x + weight * fresh),
}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("rule", RULES)
def test_merges_with_a_bias(rule: str, rows: int, fused: bool, request: pytest.FixtureRequest) -> None:
    device = request.getfixturevalue("device") if fused else "cpu"
    x, fresh = torch.randn(2, 2, 3, 20, 7, 5).to(device)
    weight, bias = torch.rand(rows, 1, 1, 1, 1).to(device), torch.randn(20).to(device)
    ours, exact = RULES[rule]
    expected = exact(x.double(), fresh.double() + bias.double()[:, None, None], weight.double())
    with fused_kernels(fused):
        out = ours(x, fresh, weight, bias)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rule", RULES)
def test_without_a_bias_the_result_takes_the_place_of_the_fresh_operand(rule: str) -> None:
    x, fresh = torch.randn(2, 2, 4, 3, 3)
    weight = torch.rand(1)
    ours, exact = RULES[rule]
    expected = exact(x, fresh, weight)
    out = ours(x, fresh, weight, None)
    torch.testing.assert_close(out, expected)
    assert out.data_ptr() == fresh.data_ptr()


def test_gradients_reach_all_operands() -> None:
    operands = [torch.randn(shape, requires_grad=True) for shape in ((2, 4, 3, 3), (2, 4, 3, 3), (1,), (4,))]
    with fused_kernels(True):
        blend(*operands).sum().backward()
    assert all(operand.grad is not None and operand.grad.any() for operand in operands)

"""Laws of the arithmetic that writes over an operand, and merges with a bias in the same pass against float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.kernels.elementwise import add_residual, merge_convex, merge_residual, silu
from fusionframes_core.kernels.kernel_choice import fused_kernels

RULES: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "residual": (lambda x, fresh, weight, bias: add_residual(x, fresh, bias), lambda x, fresh, weight: x + fresh),
    "convex merge": (merge_convex, lambda x, fresh, weight: (1 - weight) * x + weight * fresh),
    "residual merge": (merge_residual, lambda x, fresh, weight: x + weight * fresh),
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


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("cells", [(3, 1, 1), (1, 3, 3), (3, 3, 2)])
@pytest.mark.parametrize("rule", RULES)
def test_merges_with_a_bias_by_place(
    rule: str, cells: tuple[int, int, int], fused: bool, request: pytest.FixtureRequest
) -> None:
    device = request.getfixturevalue("device") if fused else "cpu"
    x, fresh = torch.randn(2, 2, 3, 20, 7, 2 if cells[2] == 2 else 5).to(device)
    weight, bias = torch.rand(2, 1, 1, 1, 1).to(device), torch.randn(*cells, 20).to(device)
    placed = bias.double().movedim(-1, 1).expand(3, -1, -1, -1)
    if cells[1] > 1:
        down, across = [0, 1, 1, 1, 1, 1, 2], [0, 1] if cells[2] == 2 else [0, 1, 1, 1, 2]
        placed = placed[:, :, down][..., across]
    ours, exact = RULES[rule]
    expected = exact(x.double(), fresh.double() + placed, weight.double())
    with fused_kernels(fused):
        out = ours(x, fresh, weight, bias)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("rule", ["convex merge", "residual merge"])
def test_a_bias_goes_past_a_merge(rule: str) -> None:
    x, fresh = torch.randn(2, 2, 3, 20, 7, 5).double()
    alpha, bias, past = torch.rand(1).double(), torch.randn(20).double(), torch.randn(20).double()
    merge, exact = RULES[rule]
    spread = past[:, None, None]
    expected = exact(x + spread, fresh + bias[:, None, None], alpha)
    torch.testing.assert_close(merge(x, fresh, alpha, bias, past=past) + spread, expected)


def test_silu_keeps_its_input_while_gradients_are_recorded() -> None:
    x = torch.randn(4, requires_grad=True)
    before = x.detach().clone()
    assert torch.equal(silu(x), nn.functional.silu(before))
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "combine",
    [add_residual, *(lambda x, y, how=how: how(x, y, torch.tensor(0.3)) for how in (merge_convex, merge_residual))],
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


def test_gradients_reach_all_operands() -> None:
    operands = [torch.randn(shape, requires_grad=True) for shape in ((2, 4, 3, 3), (2, 4, 3, 3), (1,), (4,))]
    with fused_kernels(True):
        merge_convex(*operands).sum().backward()
    assert all(operand.grad is not None and operand.grad.any() for operand in operands)

"""Laws of the arithmetic that writes over an operand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusionframes_core.models.inplace import add_residual, merge_convex, merge_residual, silu


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

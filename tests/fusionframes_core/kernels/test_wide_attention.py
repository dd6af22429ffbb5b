"""Attention by query blocks against float64; on a CPU torch's own, bit for bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from fusionframes_core.kernels.fused_operations import softmax
from fusionframes_core.kernels.kernel_choice import fused_kernels
from fusionframes_core.kernels.wide_attention import blocked_attention, wide_attention


def test_on_a_cpu_it_is_torchs_own() -> None:
    query, key, value = torch.randn(3, 2, 3, 10, 288)
    expected = F.scaled_dot_product_attention(query, key, value)
    assert torch.equal(wide_attention(query, key, value), expected)


@pytest.mark.parametrize("scores", [1, 50, 2**20])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_blocks(dtype: torch.dtype, tolerance: float, scores: int) -> None:
    query, key, value = torch.randn(2, 13, 288), torch.randn(2, 7, 288), torch.randn(2, 7, 288)
    operands = [part.to(dtype) for part in (query, key, value)]
    exact = F.scaled_dot_product_attention(*(part.double() for part in operands))
    out = blocked_attention(*operands, scores=scores)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().max() / exact.abs().max() < tolerance


@pytest.mark.parametrize("length", [1, 7, 200, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_softmax_in_one_pass(dtype: torch.dtype, length: int, device: str) -> None:
    scores = 30 * torch.randn(3, 5, length, device=device)
    with fused_kernels(True):
        shares = softmax(scores, 0.25, dtype)
    assert shares.dtype == dtype
    exact = (scores.double() * 0.25).softmax(-1)
    assert (shares.double() - exact).abs().max() < 2 * torch.finfo(dtype).eps + 1e-6
    assert torch.allclose(shares.double().sum(-1), torch.ones(3, 5, dtype=torch.float64, device=device), atol=2e-2)


def test_blocks_with_the_kernel(device: str) -> None:
    query, key, value = (torch.randn(2, length, 288, device=device) for length in (13, 7, 7))
    exact = F.scaled_dot_product_attention(*(part.double() for part in (query, key, value)))
    with fused_kernels(True):
        out = blocked_attention(query, key, value, scores=50)
    assert (out.double() - exact).abs().max() / exact.abs().max() < 1e-6


class Largest(TorchDispatchMode):
    """The largest result of any operation, in numbers."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        self.numbers = max(self.numbers, out.numel())
        return out


def test_scores_are_bounded() -> None:
    query, key, value = torch.randn(3, 2, 64, 4)
    with Largest() as largest:
        blocked_attention(query, key, value, scores=2 * 64 * 8)
    assert largest.numbers == 2 * 64 * 8


def test_gradients_pass() -> None:
    operands = [torch.randn(1, 2, 5, 288, requires_grad=True) for _ in range(3)]
    wide_attention(*operands).sum().backward()
    assert all(part.grad is not None for part in operands)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: the width at which torch's kernels end is a GPU's")
def test_on_a_gpu() -> None:
    query, key, value = torch.randn(3, 2, 3, 300, 1024, device="cuda", dtype=torch.bfloat16)
    exact = F.scaled_dot_product_attention(*(part.double() for part in (query, key, value)))
    out = wide_attention(query, key, value)
    assert (out.double() - exact).abs().max() / exact.abs().max() < 2e-2

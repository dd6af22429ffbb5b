"""Which devices and types run the kernels, and what the log says of those that cannot."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
from typing import Any

import pytest
import torch

from fusionframes_core.kernels import fused_operations, kernel_choice
from fusionframes_core.kernels.elementwise import add_residual, place_bias
from fusionframes_core.kernels.group_norms import GroupNormSpec, plain_norm
from fusionframes_core.kernels.kernel_choice import kernels_run
from fusionframes_core.kernels.wide_attention import blocked_attention

GPU = torch.device("cuda", 0)


def fail(*arguments: Any) -> None:
    raise RuntimeError("Failed to find C compiler.\nPlease specify one")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A GPU of compute capability 7.5 on which Triton builds every kernel, as far as the choice can see."""
    kernels: Any = types.ModuleType("triton_kernels")
    kernels.try_out = lambda device, dtype: None
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "fusionframes_core.kernels.triton_kernels", kernels)
    monkeypatch.setattr("fusionframes_core.kernels.triton_kernels", kernels, raising=False)
    kernels_run.cache_clear()
    yield kernels
    kernels_run.cache_clear()


def test_types_and_devices(gpu: types.ModuleType) -> None:
    assert kernels_run(GPU, torch.float16)
    assert kernels_run(GPU, torch.float32)
    assert not kernels_run(GPU, torch.float64)
    assert not kernels_run(torch.device("cpu"), torch.float32)
    assert not kernels_run(torch.device("mps"), torch.float16)


@pytest.mark.parametrize("problem", ["no bf16", "no triton", "no compiler"])
def test_a_card_that_cannot_is_said_once(
    problem: str, gpu: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dtype, words = torch.float16, "Failed to find C compiler."
    if problem == "no bf16":
        dtype, words = torch.bfloat16, "the GPU has no bf16 (compute capability 7.5)"
    elif problem == "no triton":
        words = "Triton is not installed"
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(gpu, "try_out", fail)
    with caplog.at_level(logging.WARNING, kernel_choice.__name__):
        assert not kernels_run(GPU, dtype)
        assert not kernels_run(GPU, dtype)
    assert len(caplog.records) == 1
    assert words in caplog.text
    assert "Please specify one" not in caplog.text


def test_a_full_gpu_is_no_reason(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(gpu, "try_out", full)
    with pytest.raises(torch.OutOfMemoryError):
        kernels_run(GPU, torch.float16)


def test_the_kernels_try_themselves_out(device: str) -> None:
    from fusionframes_core.kernels import triton_kernels

    triton_kernels.try_out(torch.device(device), torch.float32)


def test_a_kernel_that_fails_later_is_said_once(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = torch.randn(2, 8, 3, 3)
    expected = plain_norm(x, GroupNormSpec(2), True)
    monkeypatch.setattr(kernel_choice, "_failed", set())
    monkeypatch.setattr(kernel_choice, "kernels_run", lambda device, dtype: True)
    monkeypatch.setattr(fused_operations, "group_norm", fail)
    monkeypatch.setattr(fused_operations, "merge", fail)
    with caplog.at_level(logging.WARNING, kernel_choice.__name__):
        assert torch.equal(plain_norm(x, GroupNormSpec(2), True), expected)
        assert torch.equal(add_residual(x, x.clone(), torch.zeros(8)), 2 * x)
        assert torch.equal(plain_norm(x, GroupNormSpec(2), True), expected)
    assert len(caplog.records) == 1
    assert "Failed to find C compiler" in caplog.text


def test_attention_goes_on_where_its_kernel_fails(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    operands = torch.randn(3, 1, 5, 8)
    expected = blocked_attention(*operands)
    monkeypatch.setattr(kernel_choice, "_failed", set())
    monkeypatch.setattr(kernel_choice, "kernels_run", lambda device, dtype: True)
    monkeypatch.setattr(fused_operations, "softmax", fail)
    with caplog.at_level(logging.WARNING, kernel_choice.__name__):
        assert torch.equal(blocked_attention(*operands), expected)
        assert torch.equal(blocked_attention(*operands), expected)
    assert len(caplog.records) == 1


def test_a_bias_by_place_is_added_where_the_kernel_fails(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, table = torch.randn(2, 8, 4, 3), torch.randn(2, 3, 3, 8)
    expected = 2 * x + place_bias(table, x)
    monkeypatch.setattr(kernel_choice, "_failed", set())
    monkeypatch.setattr(kernel_choice, "kernels_run", lambda device, dtype: True)
    monkeypatch.setattr(fused_operations, "merge", fail)
    torch.testing.assert_close(add_residual(x, x.clone(), table), expected)

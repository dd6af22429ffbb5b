"""Numbers that processes add up, on devices with float64 and on those without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import training.engine.devices
from training.engine.devices import sum_over_processes

VALUES = torch.tensor([1 / 3, 1e-7, 12345.678901234, 0.0, 1.0], dtype=torch.float64)


class ThreeAlike:
    """What accelerate does for three processes that have the same numbers."""

    num_processes, device = 3, torch.device("cpu")

    def __init__(self) -> None:
        self.dtypes: list[torch.dtype] = []

    def reduce(self, tensor: Tensor, how: str) -> Tensor:
        """The sum."""
        assert how == "sum"
        self.dtypes.append(tensor.dtype)
        return 3 * tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """Each process's tensor, along the first dimension."""
        self.dtypes.append(tensor.dtype)
        return torch.cat((tensor, tensor, tensor))


def test_sums_are_float64() -> None:
    accelerator: Any = ThreeAlike()
    assert torch.equal(sum_over_processes(accelerator, VALUES), 3 * VALUES)
    assert accelerator.dtypes == [torch.float64]


def test_a_device_without_float64_never_meets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of float32 lose next to nothing; a single one would be off in the eighth digit."""
    monkeypatch.setattr(training.engine.devices, "NO_FLOAT64", ("cpu",))
    accelerator: Any = ThreeAlike()
    summed = sum_over_processes(accelerator, VALUES)
    assert accelerator.dtypes == [torch.float32]
    assert summed.dtype == torch.float64
    torch.testing.assert_close(summed, 3 * VALUES, rtol=1e-13, atol=0)
    assert (3 * VALUES.float().double() - 3 * VALUES).abs().max() > 1e-6


def test_what_is_not_finite_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.engine.devices, "NO_FLOAT64", ("cpu",))
    accelerator: Any = ThreeAlike()
    found = sum_over_processes(accelerator, torch.tensor([torch.inf, torch.nan, 1.0], dtype=torch.float64))
    assert found.isfinite().tolist() == [False, False, True]


def test_one_process_has_its_own_numbers() -> None:
    accelerator: Any = ThreeAlike()
    accelerator.num_processes = 1
    assert sum_over_processes(accelerator, VALUES) is VALUES

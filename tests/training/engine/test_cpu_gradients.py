"""bf16 on a CPU whose gradients are wrong is said before a run begins."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tests.helpers.toy_trainer import settings, toy_trainer
from training.engine import cpu_gradients
from training.engine.cpu_gradients import TOLERANCE, gradient_error

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="runs train on the GPU here")


@NO_GPU
@pytest.mark.parametrize(("precision", "right", "lines"), [("bf16", False, 1), ("bf16", True, 0), ("no", False, 0)])
def test_wrong_gradients_are_said(
    precision: str,
    right: bool,
    lines: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cpu_gradients, "convolutions_over_time_are_right", lambda: right)
    with caplog.at_level(logging.WARNING):
        toy_trainer(settings(tmp_path, mixed_precision=precision))
    assert sum("mixed_precision should be no on this processor" in line for line in caplog.messages) == lines


def test_right_kernels_pass_and_wrong_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert gradient_error(torch.Generator().manual_seed(0)) < 0.2 * TOLERANCE
        own = torch.conv3d
        monkeypatch.setattr(torch, "conv3d", lambda x, weight, **rest: own(x, weight.bfloat16().to(x) * 1.1, **rest))
        assert gradient_error(torch.Generator().manual_seed(0)) < TOLERANCE, "both are 1.1 times as large"
        monkeypatch.setattr(torch, "conv3d", lambda x, weight, **rest: own(x, weight, **rest) * (1 + (x.itemsize == 2)))
        assert gradient_error(torch.Generator().manual_seed(0)) > TOLERANCE

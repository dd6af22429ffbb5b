"""bf16 on a CPU, whose gradients may be wrong, is said before a run begins."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from tests.helpers.toy_trainer import settings, toy_trainer

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="runs train on the GPU here")


@NO_GPU
@pytest.mark.parametrize(("precision", "lines"), [("bf16", 1), ("no", 0)])
def test_doubtful_gradients_are_said(
    precision: str, lines: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        toy_trainer(settings(tmp_path, mixed_precision=precision))
    assert sum("mixed_precision should be no on a CPU" in line for line in caplog.messages) == lines

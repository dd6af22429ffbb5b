"""bf16 on a CPU, whose gradients may be wrong, is said before a run begins."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.toy_trainer import settings, toy_trainer
from training.engine.cpu_gradients import warn_of_wrong_gradients

SENTENCE = "mixed_precision should be no on a CPU"


@pytest.mark.parametrize(
    ("device", "precision", "lines"), [("cpu", "bf16", 1), ("cpu", "no", 0), ("cuda", "bf16", 0), ("cuda", "no", 0)]
)
def test_doubtful_gradients_are_said(device: str, precision: str, lines: int, caplog: pytest.LogCaptureFixture) -> None:
    accelerator: Any = SimpleNamespace(device=torch.device(device), mixed_precision=precision)
    warn_of_wrong_gradients(accelerator)
    assert sum(SENTENCE in line for line in caplog.messages) == lines


@pytest.mark.skipif(torch.cuda.is_available(), reason="runs train on the GPU here")
def test_before_a_run_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        toy_trainer(settings(tmp_path, mixed_precision="bf16"))
    assert any(SENTENCE in line for line in caplog.messages)

"""Streamed weights take less memory than weights that are there, and what the command prints is what it counted."""

from __future__ import annotations

import pytest
import torch

from benchmarks.our_stages import SMALL
from benchmarks.streamed import main, measure


def test_streaming_needs_less() -> None:
    there, streamed = (measure(SMALL, torch.bfloat16, way) for way in (False, True))
    assert there.weights == there.resident == streamed.weights
    assert streamed.resident < 0.2 * there.weights
    assert there.weights < there.most
    assert streamed.most < there.most - 0.4 * there.weights


@pytest.mark.slow
def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--small"])
    assert capsys.readouterr().out.count("streamed") == 2

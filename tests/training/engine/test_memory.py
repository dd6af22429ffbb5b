"""Measuring, drawing and saving take no second copy of what trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import MEASURED, STATUS
from tests.helpers.training_runs import ROOT


@pytest.mark.slow
def test_nothing_beside_a_step_takes_more_than_a_small_part_of_the_model(tmp_path: Path) -> None:
    """A step needs the gradients, as large as the model. A copy of the model would too; one matrix is a twelfth of it.

    In the background a copy in main memory is asked for: weights, averages and two states, four times the model.
    """
    if not STATUS.is_file():
        pytest.skip("peak memory is read from /proc, which this system does not have")
    command = [sys.executable, "-m", "tests.helpers.measured_run", str(tmp_path)]
    answer = subprocess.run(command, cwd=ROOT, env=os.environ | MEASURED, capture_output=True, text=True, check=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    print(found)
    assert found["step"] > 0.9 * found["model"]
    assert found["measuring"] < 0.2 * found["model"]
    assert found["checkpoint"] < 0.2 * found["model"]
    assert 3.8 * found["model"] < found["background"] < 4.3 * found["model"]

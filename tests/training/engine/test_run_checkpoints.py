"""A run's folder: one run at a time, a log that goes on where the run does, what its figures count."""

from __future__ import annotations

import errno
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.engine.devices
from tests.helpers.toy_trainer import settings, toy_spec, toy_trainer
from tests.helpers.training_runs import entries
from training.engine.devices import only_run_in


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is refused before it touches anything; a run that has ended, well or not, holds nothing."""
    first, second = toy_trainer(settings(tmp_path), nan_at=6), toy_trainer(settings(tmp_path))
    with only_run_in(first.accelerator, tmp_path):
        with pytest.raises(ValueError, match=r"output must not be another run's at work: one is under way in .*"):
            second.run()
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with pytest.raises(FloatingPointError):
        first.run()
    second.run()
    assert [entry["step"] for entry in entries(tmp_path)] == [2, 4, 6, 8, 10]


def test_the_log_goes_on_where_the_run_does(tmp_path: Path) -> None:
    """Lines of steps that are done again, and one that a kill cut off, go; the others stay to the byte."""
    toy_trainer(settings(tmp_path, steps=4)).run()
    log = tmp_path / "log.jsonl"
    before = log.read_text()
    log.write_text(before + '{"step": 4, "lo{"step": 6, "loss": 1.0}\n{}\n{"step": 6, "loss": 1.0}\n{"step": 8, "lo')
    toy_trainer(settings(tmp_path)).run()
    assert log.read_text().startswith(before)
    assert [entry["step"] for entry in entries(tmp_path)] == [2, 4, 6, 8, 10]


def test_time_of_a_step_is_without_measuring(tmp_path: Path) -> None:
    """Each takes a second before the last line here, and would be a tenth of one in the time of ten steps."""

    def slow(answer: Any) -> Any:
        return lambda *_: (time.sleep(1.0), answer)[1]

    spec = replace(toy_spec(), sample=slow(np.zeros((3, 16, 16, 3), np.uint8)), validate=slow({"val_loss": 1.0}))
    trainer = toy_trainer(settings(tmp_path, **{f"{what}_every": 5 for what in ("sample", "checkpoint")}), spec=spec)
    save = trainer.save
    trainer.save = lambda: (time.sleep(1.0), save())[1]  # type: ignore[method-assign]
    trainer.run()
    assert entries(tmp_path)[-1]["val_loss"] == 1.0
    assert entries(tmp_path)[-1]["seconds_per_step"] < 0.09


def test_a_checkpoint_without_running_sums_goes_on(tmp_path: Path) -> None:
    """As the engine wrote them before it had any."""
    toy_trainer(settings(tmp_path, steps=4)).run()
    path = tmp_path / "checkpoints" / "00000004" / "progress.json"
    progress = json.loads(path.read_text())
    del progress["sums"]
    path.write_text(json.dumps({**progress, "logs": []}))
    toy_trainer(settings(tmp_path)).run()
    assert [entry["step"] for entry in entries(tmp_path)] == [2, 4, 6, 8, 10]


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(training.engine.devices.FileLock, "acquire", no_locks)
    with pytest.warns(UserWarning, match="is not safe from a second run: it cannot be locked"):
        toy_trainer(settings(tmp_path)).run()
    assert entries(tmp_path)[-1]["step"] == 10

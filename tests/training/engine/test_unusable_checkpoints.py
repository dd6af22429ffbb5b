"""Checkpoints that do not fit the disk, belong to another run, or are damaged: one sentence, and nothing is lost."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Any

import pytest

import training.engine.run_checkpoints
from tests.helpers.toy_trainer import settings, toy_spec, toy_trainer
from training.engine.durable_files import DiskFull


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """Whichever file of the checkpoint does not fit: the one before it is intact, and nothing half-written stays."""
    toy_trainer(settings(tmp_path, steps=4)).run()
    before = {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()}
    real, calls = training.engine.run_checkpoints.save_file, itertools.count()

    def full(tensors: Any, path: Path) -> None:
        if next(calls) == part:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(training.engine.run_checkpoints, "save_file", full)
    with pytest.raises(
        DiskFull, match=r"no space left for the checkpoint of step 8 .*; the checkpoint of step 4 is intact"
    ):
        toy_trainer(settings(tmp_path)).run()
    assert {path: path.read_bytes() for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    trainer = toy_trainer(settings(tmp_path))
    trainer.run()
    assert trainer.step == 10


def test_a_foreign_checkpoint_is_refused_before_the_first_step(tmp_path: Path) -> None:
    """Another width, another stage, other trainable parts, an older version: one sentence each."""
    toy_trainer(settings(tmp_path, steps=4)).run()
    with pytest.raises(
        ValueError, match=r"the model has changed since \(3 other shapes, first first.bias: \[8\] there, \[9\] here\)"
    ):
        toy_trainer(settings(tmp_path), width=9).run()
    with pytest.raises(ValueError, match="is a checkpoint of stage 'toy', this is 'other': name another output"):
        toy_trainer(settings(tmp_path), spec=toy_spec("other")).run()
    trainer = toy_trainer(settings(tmp_path))
    trainer.state.names, trainer.average.values = trainer.state.names[:1], trainer.average.values[:1]
    with pytest.raises(ValueError, match="what trains has changed since"):
        trainer.run()
    (tmp_path / "old" / "checkpoint").mkdir(parents=True)
    (tmp_path / "old" / "checkpoint" / "progress.json").write_text('{"step": 3}')
    with pytest.raises(ValueError, match="was written by an older version"):
        toy_trainer(settings(tmp_path / "old")).run()


@pytest.mark.parametrize("name", ["progress.json", "model.safetensors", "optimizer.safetensors"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path, name: str) -> None:
    toy_trainer(settings(tmp_path, steps=4)).run()
    path = tmp_path / "checkpoints" / "00000004" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(
        ValueError, match=r"the checkpoint .*00000004 is damaged \(.*\); delete it, or name another output"
    ):
        toy_trainer(settings(tmp_path)).run()


def test_a_half_written_checkpoint_is_ignored_and_removed(tmp_path: Path) -> None:
    toy_trainer(settings(tmp_path, steps=4)).run()
    (tmp_path / "checkpoints" / "00000009.partial").mkdir()
    trainer = toy_trainer(settings(tmp_path, steps=8))
    trainer.run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000008"]

"""Pieces of a checkpoint: written by any number of processes, read by any other; complete in the background too."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import training.engine.run_checkpoints
from tests.helpers.toy_trainer import settings, toy_trainer
from tests.helpers.training_runs import stored
from training.engine.checkpoint_parts import StoredPart, file_name, on_cpu, own_portion
from training.engine.durable_files import DiskFull
from training.engine.trainer import Trainer

WHOLE = {"matrix": torch.arange(20.0).reshape(5, 4), "vector": torch.arange(3.0), "count": torch.tensor(7.0)}


def write(folder: Path, processes: int) -> None:
    """`matrix` in shards cut as torch.chunk cuts, which may leave some processes none; the rest dealt out."""
    shards = WHOLE["matrix"].chunk(processes)
    for rank in range(processes):
        mine = own_portion({name: WHOLE[name] for name in ("vector", "count")}, rank, processes)
        shard = {"matrix": shards[rank]} if rank < len(shards) else {}
        save_file(on_cpu({**mine, **shard}, copy=False), folder / file_name("model", rank, processes))


@pytest.mark.parametrize("processes", [1, 2, 4, 7])
def test_any_rows_come_back_whoever_wrote_them(tmp_path: Path, processes: int) -> None:
    write(tmp_path, processes)
    with StoredPart(tmp_path, "model", processes) as part:
        assert part.shapes() == {name: tuple(value.shape) for name, value in WHOLE.items()}
        assert all(torch.equal(part.tensor(name), value) for name, value in WHOLE.items())
        for first in range(6):
            for last in range(first, 6):
                assert torch.equal(part.rows("matrix", first, last), WHOLE["matrix"][first:last])
        target = torch.zeros(5, 4)
        part.fill("matrix", target)
        assert torch.equal(target, WHOLE["matrix"])


def test_a_missing_file_is_no_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, 4)
    (tmp_path / file_name("model", 2, 4)).unlink()
    with pytest.raises(FileNotFoundError):
        StoredPart(tmp_path, "model", 4)


def test_what_all_have_is_written_once() -> None:
    tensors = {f"layer{index}": torch.zeros(1) for index in range(5)}
    portions = [own_portion(tensors, rank, 3) for rank in range(3)]
    assert sorted(name for portion in portions for name in portion) == sorted(tensors)
    assert max(len(portion) for portion in portions) == 2


def test_nothing_shares_storage_in_a_file() -> None:
    shared = torch.arange(4.0)
    found = on_cpu({"one": shared, "two": shared[1:]}, copy=False)
    assert found["one"].data_ptr() == shared.data_ptr()
    assert torch.equal(found["two"], shared[1:])
    assert on_cpu({"one": shared}, copy=True)["one"].data_ptr() != shared.data_ptr()


def history(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> dict[int, dict[str, torch.Tensor]]:
    """Every checkpoint of a run by its step, as it was when it was complete: weights, averages and states together."""
    seen, commit = {}, trainer.checkpoints.commit

    def note(step: int, progress: Any) -> None:
        commit(step, progress)
        parts = (stored(trainer.settings.output, part) for part in ("model", "average", "optimizer"))
        seen[step] = {f"{index}.{name}": value for index, part in enumerate(parts) for name, value in part.items()}

    monkeypatch.setattr(trainer.checkpoints, "commit", note)
    trainer.run()
    return seen


def test_a_background_checkpoint_is_the_one_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps go on while files are written, from a copy of the weights as they were: equal bits to writing at once."""
    real, threads = training.engine.run_checkpoints.save_file, set()
    wanted = history(toy_trainer(settings(tmp_path / "at_once")), monkeypatch)
    trainer = toy_trainer(settings(tmp_path / "behind", background_checkpoints=True))

    def slow(tensors: Any, path: Path) -> None:
        threads.add(threading.current_thread().name)
        while trainer.step < min(10, int(path.parent.name.split(".")[0]) + 2):
            time.sleep(0.001)  # two steps later
        real(tensors, path)

    monkeypatch.setattr(training.engine.run_checkpoints, "save_file", slow)
    found = history(trainer, monkeypatch)
    assert threads == {"checkpoint"}
    assert sorted(found) == sorted(wanted) == [4, 8, 10]
    for step, tensors in wanted.items():
        assert found[step].keys() == tensors.keys()
        assert all(torch.equal(found[step][name], value) for name, value in tensors.items()), step


def test_a_full_disk_behind_the_steps_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    toy_trainer(settings(tmp_path, steps=4)).run()
    monkeypatch.setattr(training.engine.run_checkpoints, "save_file", full)
    with pytest.raises(
        DiskFull, match=r"no space left for the checkpoint of step 8 .*; the checkpoint of step 4 is int"
    ):
        toy_trainer(settings(tmp_path, background_checkpoints=True)).run()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000004"]


def test_a_checkpoint_of_the_first_format_goes_on(tmp_path: Path) -> None:
    """It held the frozen weights too, and no word of the processes."""
    trainer = toy_trainer(settings(tmp_path, steps=4))
    trainer.run()
    path = tmp_path / "checkpoints" / "00000004"
    state = trainer.module.state_dict()
    model = load_file(path / "model.safetensors")
    save_file({**{name: state[name] for name in ("frozen.weight", "frozen.bias")}, **model}, path / "model.safetensors")
    progress = (path / "progress.json").read_text()
    progress = progress.replace('"format": 2', '"format": 1').replace('"processes": 1, ', "").replace('"frozen"', '"x"')
    (path / "progress.json").write_text(progress)
    again = toy_trainer(settings(tmp_path))
    again.run()
    assert again.step == 10

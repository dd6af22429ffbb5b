"""Never losing a run: kill -9, SIGTERM, several processes, shards. Every test starts real processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.training_runs import entries, finish, kill_after, launch, losses, read_lines, stored, write_config

pytestmark = pytest.mark.slow


def steps_of(log: Path) -> list[int]:
    """The steps of a log's lines, in their order."""
    return [json.loads(line)["step"] for line in read_lines(log)]


def assert_same_run(found: Path, wanted: Path) -> None:
    """Equal losses at every step and equal weights, all bit for bit."""
    assert losses(found) == losses(wanted)
    tensors = [load_file(folder / "toy.safetensors") for folder in (found, wanted)]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[1])
    states = [stored(folder, "optimizer") for folder in (found, wanted)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_runs_end_as_an_unbroken_one(tmp_path: Path, processes: int) -> None:
    """SIGKILL three times, also in the middle of writing checkpoints: the run ends with the same bits."""
    whole = write_config(tmp_path, output=str(tmp_path / "whole"), steps=60, checkpoint_every=1)
    finish(whole, processes)
    output = tmp_path / "killed"
    config = write_config(tmp_path, output=str(output), steps=60, checkpoint_every=1, pause=0.02)
    for step in (9, 23, 41):
        kill_after(launch(config, processes), output / "log.jsonl", step)
        assert step <= len(losses(output)) < 60
    finish(config, processes)
    assert steps_of(output / "log.jsonl") == list(range(1, 61))  # none twice
    assert_same_run(output, tmp_path / "whole")
    assert [path.name for path in (output / "checkpoints").iterdir()] == ["00000060"]


def test_kill_loses_at_most_the_steps_since_the_last_checkpoint(tmp_path: Path) -> None:
    """A run killed after step 17 with a checkpoint every 7 goes on after step 14."""
    config = write_config(tmp_path, pause=0.05)
    log = tmp_path / "run" / "log.jsonl"
    kill_after(launch(config), log, 17)
    before = read_lines(log)
    finish(config)
    after = read_lines(log)
    assert steps_of(log) == list(range(1, 31))
    assert after[:14] == before[:14]
    assert after[14] != before[14]  # done again, and so timed again


def test_sigterm_saves_and_exits(tmp_path: Path) -> None:
    """The exit status is 143, nothing is lost, and the rest of the run is the unbroken one's."""
    whole = write_config(tmp_path, output=str(tmp_path / "whole"), steps=60)
    finish(whole)
    config = write_config(tmp_path, steps=60, pause=0.05, checkpoint_every=1000)
    process = launch(config)
    log = tmp_path / "run" / "log.jsonl"
    while len(read_lines(log)) < 5:
        assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    done = len(read_lines(log))
    finish(config)
    assert len(read_lines(log)) == 60  # no step was done twice
    assert done < 60
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_equal_global_batches_have_equal_losses(tmp_path: Path) -> None:
    """Plain python accumulating twice, and two processes under `accelerate launch` with cpu2.yaml."""
    common = {"batch_size": 2, "steps": 20}
    finish(write_config(tmp_path, output=str(tmp_path / "one"), accumulation=2, **common))
    finish(write_config(tmp_path, output=str(tmp_path / "two"), **common), 2, "accelerate")
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 20
    assert one == pytest.approx(two, rel=1e-6)
    one, two = ({e["step"]: e["positive"] for e in entries(tmp_path / n) if "positive" in e} for n in ("one", "two"))
    assert len(one) > 10
    assert one == pytest.approx(two, rel=1e-6)  # a figure of some samples only, other ones in each process


@pytest.mark.parametrize("shard", ["optimizer", "full"])
def test_shards_train_alike_and_load_in_one_process(tmp_path: Path, shard: str) -> None:
    """ZeRO-1 and FSDP in two processes; their checkpoint goes on in one, and one's goes on in two."""
    common = {"batch_size": 2, "steps": 30, "decay_steps": 1}
    finish(write_config(tmp_path, output=str(tmp_path / "whole"), accumulation=2, **common))
    wanted = losses(tmp_path / "whole")
    sharded = {**common, "output": str(tmp_path / shard), "shard": shard}
    for steps, processes in ((10, 2), (20, 1), (30, 2)):
        config = write_config(tmp_path, **{**sharded, "steps": steps}, accumulation=2 // processes)
        finish(config, processes, "accelerate")
    assert losses(tmp_path / shard) == pytest.approx(wanted, rel=1e-5)
    found, wanted_weights = (load_file(tmp_path / name / "toy.safetensors") for name in (shard, "whole"))
    for name, value in wanted_weights.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shard", ["none", "full"])
def test_a_tracker_does_not_end_the_processes_before_the_weights_are_out(tmp_path: Path, shard: str) -> None:
    """Two processes with TensorBoard: its file and the weights are there, and both processes end well."""
    config = write_config(
        tmp_path, output=str(tmp_path / "run"), steps=2, decay_steps=1, trackers=["tensorboard"], shard=shard
    )
    finish(config, 2, "accelerate")
    assert (tmp_path / "run" / "toy.safetensors").is_file()
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))

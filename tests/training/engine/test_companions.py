"""A process that ends, however it does, ends the others within a minute and with its reason; a restart goes on."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.training_runs import ROOT, finish, launch, losses, write_config
from training.engine.companions import GRACE, SILENCE, connection_lost
from training.engine.devices import check_launcher

MINUTE = 60


def test_silence_is_noticed_within_a_minute() -> None:
    assert SILENCE + 2 * GRACE < MINUTE


def test_errors_of_a_connection_are_told_from_others() -> None:
    assert connection_lost(RuntimeError("[pair.cc:537] Read error: Connection reset by peer"))
    assert not connection_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        (
            "ACCELERATE_USE_DEEPSPEED",
            "launch without DeepSpeed: `shard: optimizer` is its ZeRO stage 1 and `shard: full`",
        ),
        ("ACCELERATE_USE_FSDP", "launch without accelerate's FSDP: `shard: full` is FSDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "launch without Megatron-LM: "),
    ],
)
def test_another_launchers_sharding_is_refused_with_the_setting_that_does_the_same(
    variable: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check_launcher({variable: "true"})
    check_launcher({variable: "false"})


def two_processes(config: Path) -> list[Any]:
    """The toy in two processes that no launcher watches, as a cluster's own launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.toy_trainer", "--config", str(config)],
            cwd=ROOT, env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("raises", "error: process 1 has ended: clips must be whole; the checkpoint of step 7 is intact"),
        (
            "killed",
            "error: another process has ended: the connection to it is lost; the checkpoint of step 7 is intact",
        ),
        (
            "stopped",
            "error: process 1 has given no sign of life for 15 s, so this one ends too; the checkpoint of step 7",
        ),
    ],
)
def test_one_process_ends_the_other_with_a_sentence(tmp_path: Path, how: str, sentence: str) -> None:
    """It raises, is killed, or stands still, as a machine does whose network has gone."""
    silence = 15.0 if how == "stopped" else SILENCE
    first, second = two_processes(write_config(tmp_path, fails=how, fails_at=9, silence=silence))
    try:
        said, _ = first.communicate(timeout=200)
    finally:
        os.kill(second.pid, signal.SIGKILL)
    assert sentence in said
    assert first.returncode == 1
    assert said.count("error:") == 1
    second.communicate()


@pytest.mark.slow
def test_a_restarted_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """`torchrun --max-restarts`: four processes, one of them killed; the losses are those of an unbroken run."""
    whole = write_config(tmp_path, output=str(tmp_path / "whole"), accumulation=4)
    finish(whole)
    broken = write_config(tmp_path, fails="killed", fails_at=9, accumulation=1)
    process = launch(broken, 4, "torch", more=("--max-restarts", "1"))
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said[-3000:]
    assert (tmp_path / "run" / "failed").exists()
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)

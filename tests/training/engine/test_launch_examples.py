"""The launch scripts of docs/training.md, run as they stand but for names: hosts, counts, module and config.

`ssh`, `srun` and `scontrol` are stand-ins that start the same command lines on this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.training_runs import ROOT, losses, read_lines, write_config

DOCS = ROOT / "docs" / "training.md"
BASH = shutil.which("bash")
SSH = """#!/bin/bash
shift
exec bash -c "$*"
"""
SCONTROL = """#!/bin/bash
printf 'localhost\\nelsewhere\\n'
"""
SRUN = """#!/bin/bash
pids=()
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 "$@" & pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
  wait "$pid" || status=$?
done
exit $status
"""


def example(start: str) -> str:
    """The code block of the page that begins so."""
    blocks = re.findall(r"^```\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(start)]
    return found


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def start(tmp_path: Path, script: str, config: Path) -> subprocess.Popen:
    """Run an example over the toy in two processes; `.venv` is the environment that runs the tests."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("ssh", SSH), ("scontrol", SCONTROL), ("srun", SRUN)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for name, value in (
        ("training.train_keyframes", "tests.helpers.toy_trainer"),
        ("FILE", str(config)),
        ("master_addr first", "master_addr localhost"),
        ("29500", str(free_port())),
        ("nproc_per_node 8", "nproc_per_node 1"),
    ):
        script = script.replace(name, value)
    path = tmp_path / "example.sh"
    path.write_text(script)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [str(BASH), str(path)], cwd=tmp_path, env={**environment, "OMP_NUM_THREADS": "1", "SLURM_JOB_NODELIST": "x"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


EXAMPLES = {"ssh": "for rank in", "slurm": "#!/bin/bash"}
bash_only = pytest.mark.skipif(BASH is None, reason="the examples are bash scripts; there is no bash")


@bash_only
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_bash(name: str) -> None:
    """And shellcheck finds nothing, where there is one."""
    script = example(EXAMPLES[name])
    assert subprocess.run([str(BASH), "-n"], input=script, text=True, check=False).returncode == 0
    if shutil.which("shellcheck"):
        command = ["shellcheck", "--shell=bash", "--severity=warning", "-"]
        found = subprocess.run(command, input=script, text=True, capture_output=True, check=False)
        assert found.returncode == 0, found.stdout


@bash_only
@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_two_machines_train_together(tmp_path: Path, name: str) -> None:
    """Both processes are one run: the losses are those of one process that accumulates twice."""
    common = {"batch_size": 2, "steps": 8}
    config = write_config(tmp_path, **common)
    process = start(tmp_path, example(EXAMPLES[name]), config)
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said[-3000:]
    found = losses(tmp_path / "run")
    assert len(found) == 8, said[-3000:]
    alone = write_config(tmp_path, **common, output=str(tmp_path / "alone"), accumulation=2)
    command = [sys.executable, "-m", "tests.helpers.toy_trainer", "--config", str(alone)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert found == pytest.approx(losses(tmp_path / "alone"), rel=1e-6)


@bash_only
@pytest.mark.slow
def test_slurms_signal_saves(tmp_path: Path) -> None:
    """Every process is told to stop, as Slurm does before a job's end; the checkpoint is that of the last step."""
    config = write_config(tmp_path, batch_size=2, steps=5000, pause=0.05, checkpoint_every=10_000)
    process = start(tmp_path, example(EXAMPLES["slurm"]), config)
    log = tmp_path / "run" / "log.jsonl"
    end = time.monotonic() + 200
    while len(read_lines(log)) < 3:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "no progress"
        time.sleep(0.05)
    tasks = [task for task in psutil.Process(process.pid).children(recursive=True) if "python" in task.name()]
    assert len(tasks) == 2
    for task in tasks:
        task.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=100)
    done = len(read_lines(log))
    assert process.returncode == 143, said[-3000:]
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"{done:08d}"]

"""Starting training commands as a user does, in processes of their own, and reading what they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from torch import Tensor

from training.engine.checkpoint_parts import StoredPart

ROOT = Path(__file__).resolve().parents[2]
ACCELERATE = ROOT / "training" / "configs" / "accelerate"


def write_config(folder: Path, **arguments: Any) -> Path:
    """A config file of the toy stage; arguments that TrainSettings has go under `train`."""
    own = {
        key: arguments.pop(key)
        for key in ("width", "stage", "pause", "fails", "fails_at", "silence")
        if key in arguments
    }
    defaults = {"output": str(folder / "run"), "steps": 30, "batch_size": 4, "learning_rate": 0.01, "warmup_steps": 5}
    more = {"decay_steps": 10, "log_every": 1, "checkpoint_every": 7, "trackers": []}
    path = folder / f"config_{len(list(folder.glob('*.yaml')))}.yaml"
    path.write_text(json.dumps({"train": {**defaults, **more, **arguments}, **own}))
    return path


def launch(
    config: Path,
    processes: int = 1,
    launcher: str = "torch",
    module: str = "tests.helpers.toy_trainer",
    more: tuple[str, ...] = (),
) -> Any:
    """Start a stage, by plain python, torch's launcher or `accelerate launch` with cpu2.yaml; `more`: for torch's."""
    if processes == 1:
        command = [sys.executable, "-m", module]
    elif launcher == "torch":
        how = ["--standalone", "--nproc_per_node", str(processes), *more]
        command = [sys.executable, "-m", "torch.distributed.run", *how, "-m", module]
    else:
        how = ["--config_file", str(ACCELERATE / "cpu2.yaml"), "--num_processes", str(processes)]
        how += ["--main_process_port", "0"]
        command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", *how, "-m", module]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--config", str(config)], cwd=ROOT, env=environment, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(config: Path, processes: int = 1, launcher: str = "torch", module: str = "tests.helpers.toy_trainer") -> str:
    """Run a stage to its end; its output. Raises AssertionError when it fails."""
    process = launch(config, processes, launcher, module)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output[-3000:]
    return output


def kill_after(process: Any, log: Path, lines: int) -> None:
    """SIGKILL to the launcher and all its processes as soon as the log has so many lines."""
    end = time.monotonic() + 200
    while len(read_lines(log)) < lines:
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < end, "no progress"
        time.sleep(0.005)
    for victim in [*psutil.Process(process.pid).children(recursive=True), process]:
        victim.kill()
    process.communicate()


def read_lines(log: Path) -> list[str]:
    """Complete lines so far."""
    return log.read_text().split("\n")[:-1] if log.exists() else []


def stored(folder: Path, part: str) -> dict[str, Tensor]:
    """The whole tensors of a run's last checkpoint, whoever wrote their pieces."""
    (path,) = (folder / "checkpoints").iterdir()
    progress = json.loads((path / "progress.json").read_text())
    with StoredPart(path, part, progress["processes"]) as file:
        return {name: file.tensor(name) for name in file.pieces}


def losses(folder: Path) -> dict[int, float]:
    """The loss of every step as the log has it last."""
    return {entry["step"]: entry["loss"] for entry in entries(folder)}


def entries(folder: Path) -> list[dict[str, Any]]:
    """What the lines of a run's log say."""
    return [json.loads(line) for line in read_lines(folder / "log.jsonl")]

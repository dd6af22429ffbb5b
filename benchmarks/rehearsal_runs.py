"""A rehearsal's runs by command line: prompt to video in a process of its own, measured as a whole and by stage."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusionframes_core.__main__ import main as command_line
from fusionframes_core.checkpoints.offload import OffloadedModels

MODES: tuple[tuple[str, str, str], ...] = (
    ("bf16", "none", "full"),
    ("bf16", "cpu", "full"),
    ("bf16", "disk", "full"),
    ("bf16", "disk", "8bit"),
    ("bf16", "disk", "4bit"),
    ("bf16", "disk", "layers"),
    ("fp8", "disk", "layers"),
)
"""--dtype, --offload and --text-mode, as in the table of docs/official-models.md."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
BITSANDBYTES = ("8bit", "4bit")  # text modes that need that package
MARK, WHOLE, GPU = "REHEARSAL", "whole", "GPU"  # begins the lines that a run says of itself; what they can be of


@dataclass(frozen=True)
class Short:
    """What makes a rehearsal shorter than the real thing; None is the model's own."""

    size: tuple[int, int]
    steps: int | None = None
    frames: int | None = None

    @property
    def options(self) -> list[str]:
        """For the command line."""
        steps = ["--steps", str(self.steps), "--interpolation-steps", str(self.steps)]
        frames = ["--frames", str(self.frames)]
        size = ["--size", "x".join(map(str, self.size))]
        return [*size, *(steps if self.steps else []), *(frames if self.frames else [])]

    @property
    def phrase(self) -> str:
        """For people."""
        steps = f"{self.steps} steps" if self.steps else "all steps"
        frames = f"{self.frames} keyframes" if self.frames else "all keyframes"
        return f"{self.size[0]}x{self.size[1]} pixels, {frames}, {steps}"


@dataclass(frozen=True)
class Stage:
    """What one stage took: largest resident memory in bytes, and seconds."""

    name: str
    memory: int
    seconds: float


@dataclass(frozen=True)
class Run:
    """What a run took: largest resident and GPU memory in bytes (None: not told), seconds; and what it printed."""

    succeeded: bool
    memory: int
    gpu_memory: int | None
    seconds: float
    said: str
    stages: tuple[Stage, ...] = ()


def run_mode(folder: Path, mode: tuple[str, str, str], short: Short) -> Run:
    """Prompt to video by the command line in a process of its own."""
    dtype, offload, text = mode
    options = ["--dtype", dtype, "--offload", offload, "--text-mode", text, *short.options]
    words = ["generate", "--model", str(folder), "--prompt", "a large red circle moving right", *options]
    command = [sys.executable, "-m", "benchmarks.rehearsal_runs", *words, "--out", str(folder / "rehearsal.mp4")]
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.perf_counter() - begun
    marks = read_marks(done.stdout)
    stages = tuple(mark for mark in marks if mark.name not in (WHOLE, GPU))
    memory = max((mark.memory for mark in marks if mark.name != GPU), default=0)
    gpu = next((mark.memory for mark in marks if mark.name == GPU), None)
    said = "\n".join(line for line in done.stdout.splitlines() if not line.startswith(MARK))
    return Run(done.returncode == 0, memory, gpu, seconds, said, stages)


def read_marks(said: str) -> list[Stage]:
    """What a run said of its stages, of itself as a whole, and of its memory on a GPU."""
    marks = [line.split("\t")[1:] for line in said.splitlines() if line.startswith(MARK)]
    return [Stage(name, int(memory), float(seconds)) for name, memory, seconds in marks]


def mark(name: str, memory: int, begun: float) -> None:
    """Say what something took that began at `begun`."""
    print(MARK, name, memory, time.perf_counter() - begun, sep="\t", flush=True)


@contextmanager
def measured(name: str) -> Iterator[None]:
    """Say what happens inside as a stage."""
    begun = time.perf_counter()
    if CLEAR.exists():
        mark(WHOLE, peak_memory(), begun)  # what came before: the largest counts from here
        CLEAR.write_text("5")
    try:
        yield
    finally:
        mark(name, peak_memory(), begun)


def peak_memory(status: Path = STATUS) -> int:
    """Largest resident memory of a process in bytes, what is mapped of files with it; 0 where the system does not say.

    Linux tells it of every process and since any moment, macOS of this one and since its start.
    """
    if not status.exists():
        return 0 if status != STATUS or sys.platform != "darwin" else _peak_on_macos()
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def _peak_on_macos() -> int:
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def watch_stages() -> None:
    """Let every stage of a pipeline say what it took, its loading included."""
    plain = OffloadedModels.stage

    @contextmanager
    def stage(self: OffloadedModels, name: str) -> Iterator[Any]:
        with measured(name), plain(self, name) as model:
            yield model

    OffloadedModels.stage = stage  # type: ignore[method-assign]


def main() -> int:
    """The command line with its stages watched."""
    watch_stages()
    begun = time.perf_counter()
    code = command_line(sys.argv[1:])
    mark(WHOLE, peak_memory(), begun)
    if torch.cuda.is_available():
        mark(GPU, torch.cuda.max_memory_allocated(), begun)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""What a run reports while it goes: progress bar, log.jsonl, trackers, sample videos."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from tqdm import tqdm

from fusionframes_core.files import atomic_path
from fusionframes_core.media.write_video import write_video

from .durable_files import full_disk_says, no_space
from .run_settings import TrainSettings

SAMPLE_FPS = 8.0


class Reporter:
    """Shows and keeps figures; the main process only."""

    def __init__(self, settings: TrainSettings, accelerator: Accelerator, stage: str, first: int, frames: int) -> None:
        """`frames`: how many a step trains on, over all processes; `first`: the step that the run goes on from."""
        self.settings, self.accelerator, self.main = settings, accelerator, accelerator.is_main_process
        self.first, self.frames = first, frames
        self.log_file = settings.output / "log.jsonl"
        if self.main:
            drop_lines_after(self.log_file, first)
        self.bar = tqdm(total=settings.steps, initial=first, disable=not self.main, mininterval=2, desc=stage)
        if settings.trackers:
            accelerator.init_trackers(stage, config={k: str(v) for k, v in vars(settings).items()})
        self.started = time.perf_counter()
        self._paused, self._last = 0.0, (first, self.started)

    def step(self, step: int, loss: float) -> None:
        """One more step is done."""
        rate, memory = self.frames / self._seconds_per_step(step), memory_mb(self.accelerator.device)
        shown = [f"loss={loss:.4g}", f"{rate:.3g} frames/s", *([] if memory is None else [f"{memory:.0f} MB"])]
        self.bar.set_postfix_str(", ".join(shown), False)
        self.bar.update()

    @contextlib.contextmanager
    def clock_paused(self) -> Iterator[None]:
        """Measuring, samples and checkpoints inside do not count as time of the steps."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.started += time.perf_counter() - start
            self._paused += time.perf_counter() - start

    def _seconds_per_step(self, step: int) -> float:
        return (time.perf_counter() - self.started) / max(1, step - self.first)

    def seconds_since_last(self, step: int) -> float:
        """A step's time since the call before, or the run's start: without what came earlier, as compiling."""
        now = time.perf_counter() - self._paused
        (before, then), self._last = self._last, (step, now)
        return (now - then) / max(1, step - before)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Print figures, append them to log.jsonl and send them to the trackers."""
        if not self.main:
            return
        seconds = self._seconds_per_step(step)
        entry = {"step": step, "seconds_per_step": seconds, **figures}
        tqdm.write("  ".join(f"{key}={value:.5g}" for key, value in entry.items()))
        with (
            full_disk_says(f"no space left for {self.log_file}; the last checkpoint is intact"),
            open(self.log_file, "a") as file,
        ):
            file.write(json.dumps(entry) + "\n")
        if self.settings.trackers:
            more = {"frames_per_second": self.frames / seconds, "memory_mb": memory_mb(self.accelerator.device)}
            known = {name: value for name, value in more.items() if value is not None}
            self.accelerator.log({**figures, **known}, step=step)

    def message(self, sentence: str) -> None:
        """Print a sentence above the bar."""
        if self.main:
            tqdm.write(sentence)

    def video(self, step: int, frames: np.ndarray) -> None:
        """Write a sample, uint8 (T, H, W, 3), as `samples/<step>.mp4`."""
        if self.main:
            folder = self.settings.output / "samples"
            folder.mkdir(parents=True, exist_ok=True)
            with full_disk_says(f"no space left for a sample in {folder}; the last checkpoint is intact"):
                write_video(frames, folder / f"{step:08d}.mp4", SAMPLE_FPS)

    def close(self) -> None:
        """End the bar and the trackers' files."""
        self.bar.close()
        for tracker in self.accelerator.trackers:  # not end_training(): the weights' export still needs the processes
            tracker.finish()


def drop_lines_after(log: Path, step: int) -> None:
    """Remove the lines of later steps, which a run that goes on from `step` writes again, and any that was cut off.

    A run that begins anew, from step 0, begins its log anew.
    """
    if not log.is_file():
        return
    lines = log.read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and (step_of(line) or math.inf) <= step]
    if kept != lines:
        with atomic_path(log) as partial:
            partial.write_text("".join(kept))


def step_of(line: str) -> int | None:
    """The step that a line of the log is about; None for a line that a full disk has cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return None


def memory_mb(device: torch.device) -> float | None:
    """Most memory used so far: of a CUDA device, else of this process; None on systems that do not say (Windows)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource  # Unix only
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kilobytes elsewhere


def flat_tensors(value: Any, name: str = "") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """A batch of nested mappings, sequences and dataclasses as tensors by dotted name, and the rest likewise."""
    if isinstance(value, torch.Tensor):
        return {name: value.detach().cpu().contiguous()}, {}
    if isinstance(value, Mapping):
        items = list(value.items())
    elif hasattr(value, "__dataclass_fields__"):
        items = [(key, getattr(value, key)) for key in value.__dataclass_fields__]
    elif isinstance(value, list | tuple) and any(isinstance(entry, torch.Tensor) for entry in value):
        items = list(enumerate(value))
    else:
        return {}, {name: value}
    tensors: dict[str, torch.Tensor] = {}
    others: dict[str, Any] = {}
    for key, entry in items:
        nested, rest = flat_tensors(entry, f"{name}.{key}" if name else str(key))
        tensors |= nested
        others |= rest
    return tensors, others


def save_batch(batch: Any, path: Path) -> None:
    """Write a batch as a safetensors file; what is no tensor goes into its metadata as text."""
    tensors, others = flat_tensors(batch)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.clone() for k, v in tensors.items()}, path, metadata={"values": json.dumps(others, default=str)})


def save_bad_batch(batch: Any, path: Path) -> str:
    """Save the batch that ends a run; the clause of its error that says where, or that the disk is full."""
    try:
        save_batch(batch, path)
    except Exception as error:
        if not no_space(error):
            raise
        return "there was no space left to save the batch that caused it"
    return f"the batch that caused it is in {path}"

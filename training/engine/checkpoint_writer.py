"""Writing checkpoints together: every process its own files, at once or in a thread while steps go on.

Threads write files and nothing else: they talk to no other process. Whether all have finished is said in the sums that
every step makes anyway, and the first process then gives the folder its name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from accelerate import Accelerator

from .checkpoint_parts import Tensors, on_cpu
from .devices import any_process
from .durable_files import DiskFull
from .run_checkpoints import Checkpoints


@dataclass
class Pending:
    """A checkpoint that is being written."""

    step: int
    progress: Mapping[str, Any]
    thread: threading.Thread | None = None
    problem: Exception | None = field(default=None)  # of this process

    @property
    def busy(self) -> bool:
        """Whether this process still writes."""
        return self.thread is not None and self.thread.is_alive()


class CheckpointWriter:
    """Writes one checkpoint after the other. Every process calls every method but `busy` and `failed` together."""

    def __init__(self, accelerator: Accelerator, checkpoints: Checkpoints, background: bool) -> None:
        self.accelerator, self.checkpoints, self.background = accelerator, checkpoints, background
        self.pending: Pending | None = None

    @property
    def busy(self) -> bool:
        """Whether this process still writes."""
        return self.pending is not None and self.pending.busy

    @property
    def failed(self) -> bool:
        """Whether this process could not write."""
        return self.pending is not None and self.pending.problem is not None

    def save(self, step: int, portions: Mapping[str, Tensors], progress: Mapping[str, Any]) -> None:
        """Write this process's portions, after an earlier checkpoint is complete.

        In the background they are copied to main memory first, and training may go on. Raises DiskFull on every
        process; the last checkpoint is intact then.
        """
        self.finish()
        pending = self.pending = Pending(step, {**progress, "processes": self.accelerator.num_processes})
        self._try(pending, lambda: self.checkpoints.begin(step) if self.accelerator.is_main_process else None)
        self._raise_together(pending)
        if not self.background:
            self._try(pending, lambda: self._write(step, portions))
            self.finish()
            return
        held = {part: on_cpu(tensors, copy=True) for part, tensors in portions.items()}
        write = threading.Thread(
            target=lambda: self._try(pending, lambda: self._write(step, held)), name="checkpoint", daemon=True
        )
        pending.thread = write
        write.start()

    def advance(self, busy: bool, failed: bool) -> None:
        """After a step: `busy` and `failed` of any process. Completes a checkpoint that all have written."""
        if self.pending is not None and (failed or not busy):
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written, and complete it. Raises DiskFull on every process."""
        pending = self.pending
        if pending is None:
            return
        if pending.thread is not None:
            pending.thread.join()
        self._raise_together(pending)
        if self.accelerator.is_main_process:
            self._try(pending, lambda: self.checkpoints.commit(pending.step, pending.progress))
        self._raise_together(pending)
        self.pending = None

    def _write(self, step: int, portions: Mapping[str, Tensors]) -> None:
        self.checkpoints.write(step, portions, self.accelerator.process_index, self.accelerator.num_processes)

    @staticmethod
    def _try(pending: Pending, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            pending.problem = error

    def _raise_together(self, pending: Pending) -> None:
        if not any_process(self.accelerator, pending.problem is not None):
            return
        self.pending = None
        if self.accelerator.is_main_process:
            self.checkpoints.discard(pending.step)
        elsewhere = f"the checkpoint of step {pending.step} could not be written: see the other processes"
        raise pending.problem or DiskFull(elsewhere)

"""The other processes of a run: told why this one ends, and watched, so that none waits for one that has gone.

Every process counts up a number of its own in the store that the process group keeps anyway. A number that stands still
for SILENCE seconds, or a store that is not there any more, ends this process with a sentence: a collective operation
would wait for many minutes, and cannot be interrupted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

EVERY = 2.0  # seconds between two signs of life
SILENCE = 40.0  # seconds without one
GRACE = 5.0  # seconds in which the others' words may come, or this process end by itself
LAST_WORDS = "!"


class Companions:
    """The other processes; alone, or before `watching`, there are none."""

    def __init__(self, silence: float = SILENCE) -> None:
        self.silence = silence
        self.rank, self.count = 0, 1
        self.closed = threading.Event()
        self.store: Any = None

    @contextmanager
    def watching(self, intact: Callable[[], str]) -> Iterator[None]:
        """Watch meanwhile. `intact()` says which checkpoint there is, for the sentence that ends this process.

        What ends this process is told to the others; an error of the connection to them becomes ConnectionError.
        """
        if not dist.is_initialized() or dist.get_world_size() == 1:
            yield
            return
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        store: Any = dist.distributed_c10d._get_default_store()
        if hasattr(store, "clone"):  # a connection of its own: the run's may be waiting for something
            store = store.clone()
        self.store = dist.PrefixStore("companions", store)
        self.store.set(str(self.rank), "0")
        dist.barrier()  # everybody's number is there
        watch = threading.Thread(target=self._watch, args=(intact,), name="companions", daemon=True)
        watch.start()
        try:
            yield
        except RuntimeError as error:
            ended = self.last_words()
            if ended is None and not connection_lost(error):
                self.tell(error)
                raise
            why = ended or "another process has ended: the connection to it is lost"
            raise ConnectionError(f"{why}; {intact()}") from error
        except BaseException as error:
            self.tell(error)
            raise
        finally:
            self.closed.set()

    def tell(self, error: BaseException) -> None:
        """Leave the reason why this process ends for the others."""
        if isinstance(error, SystemExit):  # they all stop together
            return
        try:
            words = " ".join(str(error).split()) or type(error).__name__
            self.store.set(str(self.rank), LAST_WORDS + words)
        except RuntimeError:  # whoever kept the store has gone already
            pass

    def last_words(self) -> str | None:
        """What the first of the others that has ended said; None if none did within GRACE."""
        end = time.monotonic() + GRACE
        while time.monotonic() < end:
            try:
                said = self._signs()
            except RuntimeError:
                return None
            for rank, sign in said.items():
                if sign.startswith(LAST_WORDS):
                    return f"process {rank} has ended: {sign.removeprefix(LAST_WORDS)}"
            time.sleep(0.2)
        return None

    def _signs(self) -> dict[int, str]:
        others = [rank for rank in range(self.count) if rank != self.rank]
        return dict(zip(others, (sign.decode() for sign in self.store.multi_get(list(map(str, others)))), strict=True))

    def _watch(self, intact: Callable[[], str]) -> None:
        seen: dict[int, tuple[str, float]] = {}
        beats = 0
        while not self.closed.wait(EVERY):
            beats += 1
            try:
                self.store.set(str(self.rank), str(beats))
                signs = self._signs()
            except RuntimeError:
                self._end("the process that holds the run together has ended", intact)
                return
            now = time.monotonic()
            for rank, sign in signs.items():
                if sign.startswith(LAST_WORDS):
                    self._end(f"process {rank} has ended: {sign.removeprefix(LAST_WORDS)}", intact)
                    return
                if seen.get(rank, ("", 0.0))[0] != sign:
                    seen[rank] = (sign, now)
                elif now - seen[rank][1] > self.silence:
                    self._end(f"process {rank} has given no sign of life for {self.silence:.0f} s", intact)
                    return

    def _end(self, why: str, intact: Callable[[], str]) -> None:
        """End this process, whatever it waits for, unless it ends by itself."""
        if not self.closed.wait(GRACE):
            print(f"error: {why}, so this one ends too; {intact()}", file=sys.stderr, flush=True)
            os._exit(1)


def connection_lost(error: RuntimeError) -> bool:
    """Whether an error is that of a collective operation whose other end has gone."""
    if isinstance(error, dist.DistError):
        return True
    told = str(error).lower()
    return any(sign in told for sign in ("connection closed by peer", "connection reset", "gloo", "broken pipe"))

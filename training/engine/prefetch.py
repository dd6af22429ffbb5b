"""Batches made by threads while the step before them computes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Ahead:
    """`make(key)` for one key after the other; with `threads`, those that follow are made meanwhile.

    What is made depends on its key alone, so it does not matter who makes it, nor when.
    """

    def __init__(self, make: Callable[[Any], Any], threads: int) -> None:
        self.make, self.threads = make, threads
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="batches") if threads else None
        self._coming: dict[Hashable, Future] = {}

    def take(self, key: Hashable, following: Iterable[Hashable] = ()) -> Any:
        """What belongs to `key`, and a start on those `following`. Raises what making it raised."""
        future = self._coming.pop(key, None)
        if self.pool is not None:
            for other in following:
                if other not in self._coming:
                    self._coming[other] = self.pool.submit(self.make, other)
        return self.make(key) if future is None else future.result()

    def close(self) -> None:
        """Forget what was not taken."""
        self._coming.clear()
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

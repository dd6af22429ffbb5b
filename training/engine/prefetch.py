"""Batches made by threads while the step before them computes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Prefetcher:
    """`make(key)` for one key after the other; with `threads`, the following ones are made meanwhile.

    A value depends on its key alone, so it is the same whichever thread makes it, and whenever.
    """

    def __init__(self, make: Callable[[Any], Any], threads: int) -> None:
        self.make, self.threads = make, threads
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="batches") if threads else None
        self._pending: dict[Hashable, Future] = {}

    def take(self, key: Hashable, following: Iterable[Hashable] = ()) -> Any:
        """The value of `key`, while threads start on those `following`. Raises what making it raised."""
        future = self._pending.pop(key, None)
        if self.pool is not None:
            for other in following:
                if other not in self._pending:
                    self._pending[other] = self.pool.submit(self.make, other)
        return self.make(key) if future is None else future.result()

    def close(self) -> None:
        """Cancel what nobody took and end the threads."""
        self._pending.clear()
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

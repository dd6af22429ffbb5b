"""SIGTERM and Ctrl-C, which ask a run to save and end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Whether one of SIGNALS came while the process was `listening`."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Meanwhile a signal is only noted; afterwards it does what it did before. In the main thread alone."""
        if threading.current_thread() is not threading.main_thread():  # no other may set handlers
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None: a handler that Python did not set, and cannot set again
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, *_: object) -> None:
        self.requested = True

"""SIGTERM and SIGHUP unwind as Ctrl-C does, so that partial files go and children end.

The exception is a KeyboardInterrupt because psycopg cancels the running query on that, and on nothing else.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The process was told to end."""


class StopSignals:
    """Turns the first signal into Stopped, in the main thread, and ignores those that come while it unwinds."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def install(self) -> None:
        """Take the signals over; one that the caller had us ignore (nohup) stays ignored."""
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)

    @property
    def exit_code(self) -> int:
        """128 and the signal's number, as shells show it; 0 if none came."""
        return 128 + self.received if self.received else 0

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = signal.Signals(number)
            raise Stopped(f"ended by {self.received.name}")


def unwind_main_thread() -> None:
    """From another thread: end the work of the main thread as a SIGTERM from outside would."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGTERM)

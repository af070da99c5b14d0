"""SIGTERM and SIGHUP unwind as Ctrl-C does, so that partial files go and children end.

The exception is a KeyboardInterrupt because psycopg cancels the running query on that, and on nothing else. What must
not be torn in the middle, and is short, is `undisturbed`: the exception comes when it is over.

Whoever tells of the end asks `what_became`: usually all was undone, but a signal may come just after the commit.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """The process was told to end."""


@dataclass(frozen=True, slots=True)
class Became:
    """What became of the work that this process does, as the end of a sentence."""

    words: str
    complete: bool = False


UNDONE = Became("what was under way was undone")


class _Work:
    """The work of this process: there is one at a time."""

    became = UNDONE


class _Section:
    """How deep the main thread is in what must not be disturbed, and what waits for its end."""

    depth = 0
    waiting: Stopped | None = None


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
            stopped = Stopped(f"ended by {self.received.name}")
            if _Section.depth:
                _Section.waiting = stopped
            else:
                raise stopped


@contextmanager
def undisturbed() -> Iterator[None]:
    """A stretch within which no Stopped is raised; one that was due comes at its end.

    For what is written by several steps that belong together, such as a transaction of the state and how a job ended.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python runs signal handlers in the main thread only
        return
    _Section.depth += 1
    try:
        yield
    finally:
        _Section.depth -= 1
        if _Section.waiting is not None and not _Section.depth:
            stopped, _Section.waiting = _Section.waiting, None
            raise stopped


def note_became(became: Became) -> None:
    """Note what becomes of the work if the process is told to end from now on; UNDONE when other work begins."""
    _Work.became = became


def what_became() -> Became:
    """What was noted last."""
    return _Work.became


def unwind_main_thread() -> None:
    """From another thread: end the work of the main thread as a SIGTERM from outside would."""
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGTERM)

"""Asks what may never answer: a call on a mount whose server has gone hangs where no time-out reaches it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Probe(Generic[T]):
    """Calls `look` in a thread of its own, and never in two: while one hangs, later askers wait for the same one.

    `look` tells what went wrong in what it answers; if it raises, that is a bug, shown on stderr by its thread.
    """

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._asked: Future[T] | None = None

    def ask(self, patience: float) -> T | None:
        """What `look` answers, begun now or still under way; None if that takes more than `patience` seconds."""
        with self._lock:
            asked = self._asked
            if asked is None or asked.done():
                asked = self._asked = Future()
                # A daemon: a look that hangs for ever must not keep the process.
                threading.Thread(target=self._answer, args=(asked,), name="resurgam-probe", daemon=True).start()
        try:
            return asked.result(patience)
        except (TimeoutError, CancelledError):
            return None

    def _answer(self, asked: Future[T]) -> None:
        try:
            asked.set_result(self._look())
        finally:
            asked.cancel()  # where nothing was set, else without effect

"""Progress on stderr: bars on a terminal, a line for each phase elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from resurgam.operations.progress import Progress, Silent

_REDRAW_SECONDS = 0.1


@contextmanager
def shown_progress(*, silent: bool) -> Iterator[Progress]:
    """The progress for one command; bars are cleared away at its end."""
    if silent:
        yield Silent()
    elif sys.stderr.isatty():
        with _Bars() as bars:
            yield bars
    else:
        yield _Lines(sys.stderr)


class _Lines:
    """For logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def phase(self, text: str, total: int | None = None) -> None:
        self._out.write(f"{text} …\n")
        self._out.flush()

    def advance(self, count: int) -> None: ...


class _Bars:
    """One bar at a time, drawn by rich, which honours NO_COLOR and TERM."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._rich = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: progress.TaskID | None = None
        self._lock = threading.Lock()
        self._total: int | None = None
        self._done = 0
        self._drawn = 0.0

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._rich.stop()

    def phase(self, text: str, total: int | None = None) -> None:
        with self._lock:
            if self._task is None:
                self._rich.start()  # not before: someone may still be asked on this terminal
            else:
                self._rich.remove_task(self._task)
            self._done, self._total, self._drawn = 0, total, 0.0
            self._task = self._rich.add_task(text, total=total)

    def advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if self._task is None or now - self._drawn < _REDRAW_SECONDS:
                return
            self._drawn = now
            if self._total is not None and self._done > self._total:
                self._total = None  # it was an estimate, and too low
                self._rich.reset(self._task, total=None)
            self._rich.update(self._task, completed=self._done)

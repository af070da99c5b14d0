"""A fault in a real process: it is killed, or waits for the test, at a chosen write of the state.

`processes.py` has `python -m resurgam` import this before anything else, by a sitecustomize of the test's. The variable
that chooses the write is the tests' own; nothing in src/ knows it.

A write is everything that the state's file is told: a journal's step, a drill's note, a job's row, an audit entry.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "RESURGAM_TEST_FAULT"
KILL, WAIT = "kill", "wait"


def install() -> None:
    """Do what the variable says: `ACTION NUMBER before|after FOLDER`; the folder takes a mark for each write."""
    told = os.environ.get(VARIABLE)
    if not told:
        return
    action, number, when, place = told.split(" ", 3)
    folder = Path(place)
    # Only once the fault is wanted: a process without it imports nothing early.
    from resurgam.catalog.state_access import Access

    real = Access.write
    count = 0

    def strike() -> None:
        if action == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / "reached").touch()
        while not (folder / "go").exists():
            time.sleep(0.01)

    @contextmanager
    def write(self: Access) -> Iterator[Any]:
        nonlocal count
        mine, count = count, count + 1
        if mine == int(number) and when == "before":
            strike()
        with real(self) as connection:
            yield connection
        (folder / "writes").open("a").write(f"{mine}\n")
        if mine == int(number) and when == "after":
            strike()

    Access.write = write  # type: ignore[method-assign]

"""A fault in a real process: it is killed, or waits for the test, at a chosen write of the state; or it is killed, or
a call fails, at a chosen change of a file system (tests/repository/faulty_system.py).

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
KILL, WAIT, CALL = "kill", "wait", "call"


def install() -> None:
    """Do what the variable says: `ACTION NUMBER before|after FOLDER`, or `call NUMBER CODE:NAME FOLDER` of a `Failure`;
    the folder takes a mark for each write, or the name of each call."""
    told = os.environ.get(VARIABLE)
    if not told:
        return
    action, number, when, place = told.split(" ", 3)
    folder = Path(place)
    if action == CALL:
        _fail_calls(int(number), when, folder)
        return
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


def _fail_calls(number: int, what: str, folder: Path) -> None:
    from resurgam import durable
    from tests.repository.faulty_system import Failure, FaultySystem

    code, _, name = what.partition(":")

    class Told(FaultySystem):
        def die(self) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def _counted(self, call: str) -> bool:
            (folder / "writes").open("a").write(f"{call}\n")
            return super()._counted(call)

    durable.system = Told(None if number < 0 else Failure(name, number, int(code)))

"""Processes that a dead job left behind: found by the mark that they inherited, and ended.

pg_dump and hooks die with their worker (PR_SET_PDEATHSIG); this is for what they started themselves, and for systems
without that.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

JOB_VARIABLE = "RESURGAM_JOB"
_GRACE_SECONDS = 3.0


def job_mark(state_file: Path, job: int) -> str:
    """What a job's processes bear in their environment."""
    return f"{job}@{state_file}"


def end_orphans(state_file: Path, job: int) -> int:
    """End every process that bears the mark of that job, which must be over; answers how many there were.

    Nothing where there is no /proc. SIGTERM first, then, after 3 s, SIGKILL.
    """
    mark = os.fsencode(f"{JOB_VARIABLE}={job_mark(state_file, job)}")
    found = _bearers(mark)
    for pid in found:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while _bearers(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in _bearers(mark):
        _signal(pid, signal.SIGKILL)
    return len(found)


def _bearers(mark: bytes) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environ = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or somebody else's
        if mark in environ.split(b"\0") and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return

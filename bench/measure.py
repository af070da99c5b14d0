"""Runs one command and says how long it took and how much memory its own processes had.

Memory is the sum of VmHWM (proc(5)) over the command and its descendants, without PostgreSQL's programs, sampled
while it runs. Not ru_maxrss: that starts from the parent's size at the fork.
"""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.05
_NOT_OURS = frozenset({"pg_dump", "pg_dumpall", "pg_restore", "psql", "postgres"})


class CommandFailed(Exception):
    """A measured command did not do its work: its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished command: seconds of wall time and of the processor's, peak memory in bytes, and what it printed.

    The processor's are those of the command and what it started, not those of a database's server.
    """

    seconds: float
    processor: float
    memory: int
    output: str


def run(command: Sequence[str | Path], environment: Mapping[str, str], *, check: bool = True) -> Run:
    """Run a command to its end. CommandFailed, with its last lines, if it exits with anything but 0."""
    os.sync()  # what an earlier command left to be written must not be paid by this one
    before = _children()
    started = time.perf_counter()
    with subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        sampler = _MemorySampler(process.pid)
        sampler.start()
        assert process.stdout is not None
        output = process.stdout.read()
        status = process.wait()
        seconds = time.perf_counter() - started
        sampler.finish()
    if check and status != 0:
        ending = "\n".join(output.strip().splitlines()[-12:])
        raise CommandFailed(f"{' '.join(map(str, command))}\nexited with {status}:\n{ending}")
    return Run(seconds, _children() - before, sampler.peak, output)


def _children() -> float:
    """Seconds of processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _MemorySampler(threading.Thread):
    """Follows one process and its descendants until it is told to finish."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = root
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(_high_water(pid) for pid in _family(self._root)))

    def finish(self) -> None:
        self._over.set()
        self.join()


def _family(pid: int) -> list[int]:
    """A process and all its descendants that are alive now; not the copy of it that is about to become a program."""
    found = [pid]
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                if Path(f"/proc/{child}/cmdline").read_bytes() != command:
                    found += _family(int(child))
    except OSError:
        # It ended while we looked.
        pass
    return found


def _high_water(pid: int) -> int:
    try:
        if Path(f"/proc/{pid}/exe").readlink().name in _NOT_OURS:
            return 0
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0

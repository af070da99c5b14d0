"""Faults at the level of system calls, for whatever changes a local disk through `durable.system`.

    with faulty_system(Failure("fsync", 3, errno.EIO)) as system: ...     # the 4th fsync fails
    with faulty_system() as system: ...                                   # only counts: system.calls

The calls are those of `durable.System`: open, write, fsync, mkdir, rename, rename2, link, unlink. Under it is a real
disk: what was done is there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resurgam import durable
from tests.repository.faulty_store import Killed

SHORT = -1  # in place of an error: write(2) takes half, as near the end of a disk; no error to whoever asks again
KILL = -2  # the process dies before this call, and no later one is made


# Calls with what may become of them, as `Failure` takes both.
FAILURES = (
    ("", KILL),
    ("write", SHORT),
    ("write", errno.ENOSPC),
    ("write", errno.EIO),
    ("fsync", errno.EIO),
    ("fsync", errno.ENOSPC),
    ("rename2", errno.EIO),
    ("unlink", errno.EIO),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """At the `at`-th `call` (from 0; "" counts all calls) comes the error `code`, SHORT or KILL; if `lasting`,
    from then on at each."""

    call: str
    at: int
    code: int
    lasting: bool = False


class FaultySystem(durable.System):
    """`calls` holds the names of all calls so far, in their order; of those that failed too."""

    def __init__(self, failure: Failure | None) -> None:
        self.calls: list[str] = []
        self.dead = False
        self._counts: Counter[str] = Counter()
        self._failure = failure
        self._lock = threading.Lock()

    def die(self) -> None:
        """What a kill does besides; `Killed` follows."""

    def _counted(self, call: str) -> bool:
        """Whether this call shall be short; raises where it shall fail."""
        with self._lock:
            if self.dead:
                raise Killed(call)
            failure = self._failure
            number = len(self.calls) if failure is None or not failure.call else self._counts[call]
            self.calls.append(call)
            self._counts[call] += 1
            if failure is None or failure.call not in ("", call):
                return False
            if number != failure.at and not (failure.lasting and number > failure.at):
                return False
            if failure.code == KILL:
                self.dead = True
                self.die()
                raise Killed(call)
            if failure.code == SHORT:
                return True
            raise OSError(failure.code, os.strerror(failure.code))

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._counted("open")
        return super().open(path, flags, mode)

    def write(self, fd: int, data: memoryview) -> int:
        short = self._counted("write")
        return super().write(fd, data[: max(1, len(data) // 2)] if short else data)

    def fsync(self, fd: int) -> None:
        self._counted("fsync")
        super().fsync(fd)

    def mkdir(self, path: Path, mode: int) -> None:
        self._counted("mkdir")
        super().mkdir(path, mode)

    def rename(self, old: Path, new: Path) -> None:
        self._counted("rename")
        super().rename(old, new)

    def rename2(self, old: Path, new: Path, flags: int) -> None:
        self._counted("rename2")
        super().rename2(old, new, flags)

    def link(self, old: Path, new: Path) -> None:
        self._counted("link")
        super().link(old, new)

    def unlink(self, path: Path) -> None:
        self._counted("unlink")
        super().unlink(path)


def failures_at(calls: Iterable[str]) -> list[Failure]:
    """Everything that may happen to a run that makes these calls."""
    counts = Counter(calls)
    counts[""] = counts.total()
    return [Failure(call, at, code) for call, code in FAILURES for at in range(counts[call])]


@contextmanager
def faulty_system(failure: Failure | None = None) -> Iterator[FaultySystem]:
    """Put in the place of `durable.system` for the block, for all threads."""
    system = FaultySystem(failure)
    before, durable.system = durable.system, system
    try:
        yield system
    finally:
        durable.system = before

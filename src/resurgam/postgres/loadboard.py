"""Which job a free connection takes next: needs met, locks free, the largest first. No I/O, safe for threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from resurgam.postgres.loadplan import Job, JobKind

# Adding a foreign key unchecked takes no time and lets its check begin; data comes before all that waits for data;
# a key locks out the other indexes of its table, so it comes before them.
_RANK = {JobKind.FOREIGN_KEY: 0, JobKind.DATA: 1, JobKind.KEY: 2}


class Board:
    """The jobs of one group, handed out to workers.

    Data that a check refused is put back once (`defer`) and loaded again, in the script's order, when all other
    data is there: a CHECK may call a function that looks at another table.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.stop = threading.Event()
        self.first_halted: int | None = None
        self._jobs = jobs
        self._waiting = set(range(len(jobs)))
        self._order = sorted(self._waiting, key=lambda i: (_RANK.get(jobs[i].kind, 3), -jobs[i].size, i))
        self._running: set[int] = set()
        self._done: set[int] = set()
        self._deferred: list[int] = []
        self._changed = threading.Condition()

    def take(self) -> tuple[int, bool] | None:
        """The next job's index, and whether it may still be deferred; None when there is nothing left to do."""
        with self._changed:
            while not self.stop.is_set():
                if (found := self._ready()) is not None:
                    self._running.add(found[0])
                    return found
                if not self._waiting and not self._deferred:
                    return None
                self._changed.wait()
            return None

    def _ready(self) -> tuple[int, bool] | None:
        running = [self._jobs[index] for index in self._running]
        for index in self._order:
            job = self._jobs[index]
            if job.needs <= self._done and not any(job.excludes(other) for other in running):
                self._order.remove(index)
                self._waiting.discard(index)
                return index, job.kind is JobKind.DATA
        if self._deferred and not running:
            self._deferred.sort()
            return self._deferred.pop(0), False
        return None

    def done(self, index: int) -> None:
        with self._changed:
            self._running.discard(index)
            self._done.add(index)
            self._changed.notify_all()

    def defer(self, index: int) -> None:
        with self._changed:
            self._running.discard(index)
            self._deferred.append(index)
            self._changed.notify_all()

    def halt(self, worker: int | None) -> None:
        """Stop handing out; the first worker to halt is the one whose error counts."""
        with self._changed:
            if not self.stop.is_set():
                self.first_halted = worker
            self.stop.set()
            self._changed.notify_all()

"""Worker threads that keep the order: results come out as the work went in.

The work is C code that gives up the GIL, so threads use all cores. At most `workers + 2` pieces are under way,
which bounds the memory. Threads live only inside the `with` block of the call that needs them. What only waits, for a
store or a disk, is done `side_by_side`, by more threads than there are cores.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

# What waits for a store at once.
_SIDE_BY_SIDE = 8

Work = TypeVar("Work")
Result = TypeVar("Result")


def worker_count() -> int:
    """The cores this process may use, at most 4: beyond that a disk or pg_dump is the limit, and memory grows."""
    return max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


class OrderedPool(Generic[Work, Result]):
    """Applies one function to pieces of work in threads and hands each result to `deliver`, in order.

    `deliver` runs in the thread that calls `submit` or `drain`. An exception of either ends the run there.
    """

    def __init__(self, function: Callable[[Work], Result], deliver: Callable[[Result], None]) -> None:
        self._function = function
        self._deliver = deliver
        workers = worker_count()
        self._limit = workers + 2
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="resurgam-worker")
        self._pending: deque[Future[Result]] = deque()

    def submit(self, work: Work) -> None:
        while len(self._pending) >= self._limit:
            self._deliver(self._pending.popleft().result())
        self._pending.append(self._executor.submit(self._function, work))

    def drain(self) -> None:
        """Wait for everything that is under way, and deliver it."""
        while self._pending:
            self._deliver(self._pending.popleft().result())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def ordered_map(function: Callable[[Work], Result], pieces: Iterable[Work]) -> Iterator[Result]:
    """Like map(), in worker threads, a few pieces ahead of the consumer."""
    workers = worker_count()
    with ThreadPoolExecutor(workers, thread_name_prefix="resurgam-worker") as executor:
        pending: deque[Future[Result]] = deque()
        try:
            for piece in pieces:
                pending.append(executor.submit(function, piece))
                if len(pending) >= workers + 2:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def side_by_side(function: Callable[[Work], Result], pieces: Iterable[Work]) -> list[Result]:
    """Like map(), for what waits and is small: several at once, in any order. An exception ends it as soon as what is
    under way has ended."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="resurgam-waiting") as executor:
        return list(executor.map(function, pieces))

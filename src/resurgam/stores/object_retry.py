"""Tries again where a store gave no answer.

Only StoreUnreachable is tried again: a full disk stays full, and after a failed fsync the next one may lie. Repeating a
put is safe: one that took place without our knowing finds its own bytes under the key, and a store takes those as done
(docs/ordering.md, sentence 41).

A store that has never answered is told of after two seconds, whether it refuses or is silent: the address may be wrong.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from resurgam.clock import Clock
from resurgam.errors import ResurgamError, StoreUnreachable
from resurgam.stores.objects import ObjectStore, StoredObject

_TRIES = 7  # half a minute or so, on average, before it is given up
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 20.0
_SILENT = 2.0  # seconds

T = TypeVar("T")


class Retrying:
    """An ObjectStore around `store`. `chance` draws from 0 to 1: many that lost one server don't come back at once.
    `tell` gets a sentence where somebody waits for the first answer, in a thread of its own."""

    def __init__(
        self,
        store: ObjectStore,
        clock: Clock,
        chance: Callable[[], float] = random.random,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._chance = chance
        self._tell = tell

    @property
    def url(self) -> str:
        return self._store.url

    @property
    def staleness(self) -> float:
        return self._store.staleness

    def prepare(self) -> None:
        self._tried(self._store.prepare)

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        self._tried(lambda: self._store.put(key, data))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._tried(lambda: self._store.get(key, offset, length))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self._tried(lambda: self._store.list(prefix))

    def delete(self, key: str) -> None:
        self._tried(lambda: self._store.delete(key))

    def time(self) -> float:
        return self._tried(self._store.time)

    def sweep(self) -> int:
        return self._tried(self._store.sweep)

    def free_bytes(self) -> int | None:
        return self._tried(self._store.free_bytes)

    def close(self) -> None:
        self._store.close()

    def _tried(self, call: Callable[[], T]) -> T:
        with self._watched():
            return self._again(call)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tells of a first call that takes long. Any answer but none at all is one."""
        tell, watch = self._tell, None
        if tell is not None:
            said = f"{self.url} has not answered yet; it is tried for up to two minutes."
            watch = threading.Timer(_SILENT, tell, (said,))
            watch.daemon = True
            watch.start()
        try:
            yield
            self._tell = None
        except StoreUnreachable:
            raise
        except ResurgamError:
            self._tell = None
            raise
        finally:
            if watch is not None:
                watch.cancel()

    def _again(self, call: Callable[[], T]) -> T:
        wait = _FIRST_WAIT
        for _ in range(_TRIES - 1):
            try:
                return call()
            except StoreUnreachable:
                self._clock.sleep(wait * (0.5 + self._chance()))
                wait = min(2 * wait, _LONGEST_WAIT)
        return call()

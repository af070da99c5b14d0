"""A store whose puts and deletes are written down as steps of a trace, begun and ended (rules: crashes.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from resurgam.errors import ObjectExists
from resurgam.stores.objects import ObjectStore, StoredObject
from tests.repository.crash_states import Step


class Watched:
    """An ObjectStore around `inner`."""

    def __init__(
        self, inner: ObjectStore, steps: list[Step], operations: Sequence[object], lock: threading.RLock
    ) -> None:
        self.inner = inner
        self._steps = steps
        self._operations = operations
        self._lock = lock

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def staleness(self) -> float:
        return self.inner.staleness

    def prepare(self) -> None:
        self.inner.prepare()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        self._step(key, bytes(data), lambda: self.inner.put(key, data))

    def delete(self, key: str) -> None:
        self._step(key, None, lambda: self.inner.delete(key))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return self.inner.get(key, offset, length)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self.inner.list(prefix)

    def time(self) -> float:
        return self.inner.time()

    def sweep(self) -> int:
        return self.inner.sweep()

    def free_bytes(self) -> int | None:
        return self.inner.free_bytes()

    def close(self) -> None:
        self.inner.close()

    def _step(self, key: str, data: bytes | None, effect: Callable[[], None]) -> None:
        with self._lock:
            step = Step(key, data, len(self._operations))
            self._steps.append(step)
        try:
            effect()
        except ObjectExists:
            with self._lock:
                self._steps.remove(step)  # such a put changes nothing
            raise
        with self._lock:
            step.ended = len(self._operations)

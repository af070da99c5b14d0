"""Objects in memory: for models, simulations, and whatever must leave nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from time import time

from resurgam.errors import ObjectExists, ObjectMissing
from resurgam.stores.objects import StoredObject, checked


class MemoryStore:
    """An ObjectStore that ends with the process. `now` gives the store's clock."""

    url = "memory:"
    staleness: float = 0.0

    def __init__(self, now: Callable[[], float] = time) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self._now = now
        self._lock = threading.Lock()

    def prepare(self) -> None:
        pass

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        checked(key)
        content = bytes(data)
        with self._lock:
            there = self.objects.get(key)
            if there is None:
                self.objects[key] = (content, self._now())
            elif there[0] != content:
                raise ObjectExists(f"There is an object {key} already.")

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        checked(key)
        there = self.objects.get(key)
        if there is None:
            raise ObjectMissing(f"There is no object {key} in {self.url}.")
        return there[0][offset:] if length is None else there[0][offset : offset + length]

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        with self._lock:
            found = sorted((key, len(data), at) for key, (data, at) in self.objects.items() if key.startswith(prefix))
        return (StoredObject(*one) for one in found)

    def delete(self, key: str) -> None:
        checked(key)
        with self._lock:
            self.objects.pop(key, None)

    def time(self) -> float:
        return self._now()

    def sweep(self) -> int:
        return 0

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass

"""Where a repository's objects lie: what it asks of a store, and nothing more (docs/ordering.md, sentence 41)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

KEY = re.compile(r"[a-z0-9]+(?:/[a-z0-9]+)*(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it: size in bytes, `stored_at` in seconds since 1970 by the store's own clock."""

    key: str
    size: int
    stored_at: float


class ObjectStore(Protocol):
    """Objects by key (`KEY`). Any thread may call any method; where the store fails, each raises StorageError."""

    @property
    def url(self) -> str:
        """What users know it by; never holds a secret."""

    @property
    def staleness(self) -> float:
        """Seconds by which a listing may lag behind; 0 where it never does."""

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Create an object; durable on return. ObjectExists if the key is taken by other bytes."""

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, at most `length`; fewer only at the object's end. ObjectMissing if it is not there."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects whose key begins with `prefix`, in the order of their keys. Never only a part of them: what can't
        be listed raises."""

    def delete(self, key: str) -> None:
        """Remove it, durably; nothing happens if it is not there."""

    def time(self) -> float:
        """The store's own clock, in seconds since 1970."""

    def sweep(self) -> int:
        """Remove what died puts left behind, if they are a day old; answers how many."""

    def free_bytes(self) -> int | None:
        """Space left, where that can be told."""

    def close(self) -> None:
        """Let go of connections."""

"""Where a repository's objects lie: what it asks of a store, and nothing more (docs/ordering.md, sentence 41)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from resurgam.errors import StorageError

KEY = re.compile(r"[a-z0-9]+(?:/[a-z0-9]+)*(?:\.[0-9]+)?")


def checked(key: str) -> str:
    """`key`, which leads nowhere but below the store's root. StorageError if it is no `KEY`."""
    if not KEY.fullmatch(key):
        raise StorageError(f"{key!r} is no object's name; nothing was touched.")
    return key


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it: size in bytes, `stored_at` in seconds since 1970 by the store's own clock."""

    key: str
    size: int
    stored_at: float


class ObjectStore(Protocol):
    """Objects by key (`KEY`); no key is a folder of another. Any thread may call any method.

    Where the store fails, each raises StorageError; StoreUnreachable (one of those) where trying again may help. A
    change that raised may have taken place.
    """

    @property
    def url(self) -> str:
        """What users know it by; never holds a secret."""

    @property
    def staleness(self) -> float:
        """Seconds by which a listing may lag behind; 0 where it never does."""

    def prepare(self) -> None:
        """Make the place where objects will lie, if the store can and it is not there. Nothing else makes it: a folder
        that is gone is a disk that is not mounted."""

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        """Create an object; durable on return. ObjectExists if the key is taken by other bytes; the same are fine."""

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes from `offset`, at most `length`; fewer only at the object's end. ObjectMissing if it is not there."""

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects whose key begins with `prefix`, in the order of their keys. Never only a part of them: what can't
        be listed raises, at the call. What is not named by a `KEY` is not shown."""

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

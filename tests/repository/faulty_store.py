"""Faults at the level of a store: kills, full disks, lost answers, at any chosen write.

    counting = FaultyStore(MemoryStore())            # no plan: only counts
    back_up(counting)
    for number in range(len(counting.writes)):       # a write is a put or a delete
        store = FaultyStore(MemoryStore(), Plan(number, Fault.KILL_AFTER))
        with pytest.raises(Killed):
            back_up(store)
        # store.inner is what the next process finds

Once killed, a store stays dead: every call raises `Killed`, so that no `finally` of the dead process changes anything.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resurgam.errors import StorageError, StoreUnreachable
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.objects import ObjectStore, StoredObject


class Killed(BaseException):
    """The process ended here. No Exception: nothing that handles errors may handle this."""


class Fault(enum.Enum):
    """What happens at the chosen write; `AFTER`: it took place, and nobody was told."""

    KILL_BEFORE = "kill before"
    KILL_AFTER = "kill after"
    KILL_HALFWAY = "kill halfway"  # a folder store is left with a partial file, other stores with nothing
    FULL_BEFORE = "full before"  # ENOSPC
    FULL_HALFWAY = "full halfway"  # a short write, which leaves a partial file
    BROKEN_BEFORE = "broken before"  # EIO
    BROKEN_AFTER = "broken after"
    LOST_ANSWER = "lost answer"  # StoreUnreachable, after the effect: Retrying tries again
    NO_ANSWER = "no answer"  # StoreUnreachable, before the effect


@dataclass(frozen=True, slots=True)
class Plan:
    """`fault` at the `at`-th write, from 0; if `lasting`, at every write from then on, as on a disk that stays full."""

    at: int
    fault: Fault
    lasting: bool = False


class FaultyStore:
    """An ObjectStore around `inner`. `writes` holds each put and delete that was begun, as (verb, key)."""

    def __init__(self, inner: ObjectStore, plan: Plan | None = None) -> None:
        self.inner = inner
        self.plan = plan
        self.writes: list[tuple[str, str]] = []
        self.dead = False
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return self.inner.url

    @property
    def staleness(self) -> float:
        return self.inner.staleness

    @property
    def struck(self) -> bool:
        """Whether the plan's write was reached."""
        return self.plan is not None and len(self.writes) > self.plan.at

    def prepare(self) -> None:
        self._alive().prepare()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        self._write("put", key, lambda: self.inner.put(key, data), memoryview(data))

    def delete(self, key: str) -> None:
        self._write("delete", key, lambda: self.inner.delete(key), memoryview(b""))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._alive().get(key, offset, length)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        return self._alive().list(prefix)

    def time(self) -> float:
        return self._alive().time()

    def sweep(self) -> int:
        return self._alive().sweep()

    def free_bytes(self) -> int | None:
        return self._alive().free_bytes()

    def close(self) -> None:
        pass  # what a kill leaves, and what comes after a test, is looked at through `inner`

    def _alive(self) -> ObjectStore:
        if self.dead:
            raise Killed
        return self.inner

    def _write(self, verb: str, key: str, effect: Callable[[], None], data: memoryview) -> None:
        with self._lock:
            self._alive()
            number = len(self.writes)
            self.writes.append((verb, key))
            plan = self.plan
            strikes = plan is not None and (number == plan.at or (plan.lasting and number > plan.at))
            if strikes and plan is not None and plan.fault is Fault.KILL_BEFORE:
                self.dead = True
        if plan is None or not strikes:
            effect()
        else:
            self._strike(plan.fault, f"{verb} {key}", effect, (key, data) if verb == "put" else None)

    def _strike(self, fault: Fault, what: str, effect: Callable[[], None], put: tuple[str, memoryview] | None) -> None:
        if fault in (Fault.KILL_AFTER, Fault.BROKEN_AFTER, Fault.LOST_ANSWER):
            effect()
        if fault in (Fault.KILL_HALFWAY, Fault.FULL_HALFWAY) and put is not None:
            self._leave_partial(*put)
        if fault in (Fault.KILL_BEFORE, Fault.KILL_AFTER, Fault.KILL_HALFWAY):
            self.dead = True
            raise Killed(what)
        if fault in (Fault.LOST_ANSWER, Fault.NO_ANSWER):
            raise StoreUnreachable(f"{self.url} gave no usable answer (injected at {what}).")
        full = fault in (Fault.FULL_BEFORE, Fault.FULL_HALFWAY)
        reason = "No space left on device" if full else "Input/output error"
        raise StorageError(f"{self.url} could not {what} ({reason}, injected).")

    def _leave_partial(self, key: str, data: memoryview) -> None:
        if isinstance(self.inner, FolderStore):
            file = self.inner.path / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.with_name(f".{file.name}.{len(self.writes):016x}.partial").write_bytes(data[: len(data) // 2])

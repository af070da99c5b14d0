"""The key ring in a store: two copies, generations, several who change it at once (docs/ordering.md, sentence 62)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from resurgam.errors import BusyError, DamagedError, RepositoryError, StorageError
from resurgam.keys.open_ring import OpenRing, create_ring, unlock_by_identity
from resurgam.keys.ring import LARGEST, encode
from resurgam.keys.slots import new_identity
from resurgam.repository.ring_store import RingStore
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import StoredObject
from tests.keys.rings import REPOSITORY, WHEN
from tests.sampling import randomness, sample

OPS = new_identity()
FIRST = create_ring(REPOSITORY, WHEN, None, [("ops", OPS.recipient)])
SECOND = FIRST.add_recipient(new_identity().recipient, "second", WHEN)
THIRD = SECOND.rotate(WHEN)[0]


def made(*rings: OpenRing) -> tuple[MemoryStore, RingStore]:
    store = MemoryStore()
    stored = RingStore(store, REPOSITORY)
    stored.create(FIRST.ring)
    for opened in rings:
        stored.replace(opened.ring)
    return store, stored


def spoil(store: MemoryStore, key: str, data: bytes | None = None) -> None:
    """One flipped bit, or other content."""
    if data is None:
        flipped = bytearray(store.objects[key][0])
        flipped[len(flipped) // 2] ^= 4
        data = bytes(flipped)
    store.objects[key] = (data, 0.0)


def test_both_copies_are_there_and_the_older_ones_gone() -> None:
    store, stored = made()
    assert sorted(store.objects) == ["keys/00000001.1", "keys/00000001.2"]
    stored.replace(SECOND.ring)
    assert sorted(store.objects) == ["keys/00000002.1", "keys/00000002.2"]
    assert {data for data, _ in store.objects.values()} == {encode(SECOND.ring)}
    found = stored.look()
    assert (found.generation, found.rings, found.warnings) == (2, (SECOND.ring,), ())


def test_a_ring_is_created_once() -> None:
    _, stored = made()
    with pytest.raises(BusyError, match="already"):
        stored.create(create_ring(REPOSITORY, WHEN, None, [("x", OPS.recipient)]).ring)
    assert stored.read() == (FIRST.ring,)


@pytest.mark.parametrize("copy", [1, 2])
@pytest.mark.parametrize("how", ["flipped", "missing", "empty", "too large", "foreign", "of another generation"])
def test_one_sound_copy_is_enough_and_the_other_is_told_of(copy: int, how: str) -> None:
    store, stored = made(SECOND)
    key = f"keys/00000002.{copy}"
    foreign = create_ring(b"\xff" * 16, WHEN, None, [("x", OPS.recipient)])
    if how == "missing":
        store.delete(key)
    else:
        contents = {"empty": b"", "too large": b" " * (LARGEST + 1), "foreign": encode(foreign.ring)}
        spoil(store, key, encode(FIRST.ring) if how == "of another generation" else contents.get(how))
    found = stored.look()
    assert found.rings == (SECOND.ring,)
    assert found.broken == (copy,)
    assert key in found.warnings[0]
    assert stored.heal() == found.warnings
    if copy == 2:
        assert stored.look().warnings == ()
        assert store.get(key) == encode(SECOND.ring)
    stored.replace(THIRD.ring)
    assert stored.look().rings == (THIRD.ring,)
    assert stored.look().warnings == ()


def test_a_damaged_generation_is_never_passed_over() -> None:
    store, stored = made(SECOND)
    for copy in (1, 2):
        store.put(f"keys/00000001.{copy}", encode(FIRST.ring))  # left over by a change that died
        spoil(store, f"keys/00000002.{copy}")
    with pytest.raises(DamagedError) as caught:
        stored.read()
    assert "keys/00000001.* is an older ring" in caught.value.hint
    with pytest.raises(DamagedError):
        stored.heal()


def test_no_ring_a_foreign_one_and_a_later_version_are_refused() -> None:
    store, stored = made()
    empty = RingStore(MemoryStore(), REPOSITORY)
    with pytest.raises(RepositoryError, match="has no key ring"):
        empty.read()
    with pytest.raises(RepositoryError, match="and this is ffff"):
        RingStore(store, b"\xff" * 16).read()
    for copy in (1, 2):
        spoil(store, f"keys/00000001.{copy}", b'{"format":"resurgam-keys","version":2}')
    with pytest.raises(RepositoryError, match="version 2"):
        stored.read()


def test_what_is_not_ours_in_keys_is_left_alone() -> None:
    store, stored = made()
    for name in ("keys/00000009", "keys/9.1", "keys/00000009.3", "keys/notes"):
        store.put(name, b"mine")
    assert stored.look().generation == 1
    stored.replace(SECOND.ring)
    assert store.get("keys/00000009.3") == b"mine"


def test_copies_that_differ_are_both_given_and_told_of() -> None:
    store, stored = made()
    other = create_ring(REPOSITORY, WHEN, None, [("x", OPS.recipient)])
    spoil(store, "keys/00000001.2", encode(other.ring))
    found = stored.look()
    assert found.rings == (FIRST.ring, other.ring)
    assert "differ" in found.warnings[0]
    stored.heal()
    assert store.get("keys/00000001.2") == encode(other.ring)


def test_the_loser_of_two_changes_is_told() -> None:
    store, stored = made()
    mine, theirs = FIRST.add_recipient(new_identity().recipient, "mine", WHEN), SECOND
    stored.replace(theirs.ring)
    with pytest.raises(BusyError, match="at the same time"):
        stored.replace(mine.ring)
    # Later still: what it would create was deleted meanwhile, so that the name is free again.
    stored.replace(THIRD.ring)
    with pytest.raises(BusyError, match="at the same time"):
        stored.replace(mine.ring)
    assert stored.read() == (THIRD.ring,)
    assert sorted(store.objects) == ["keys/00000003.1", "keys/00000003.2"]


def test_what_does_not_come_back_from_the_store_is_told() -> None:
    class Forgetful(MemoryStore):
        def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
            super().put(key, bytes(data)[:-1] + b"?" if key.endswith("2.2") else data)

    store = Forgetful()
    stored = RingStore(store, REPOSITORY)
    stored.create(FIRST.ring)
    with pytest.raises(DamagedError, match=r"keys/00000002\.2 is not as it was written"):
        stored.replace(SECOND.ring)
    assert "keys/00000001.1" in store.objects
    assert stored.look().rings == (SECOND.ring,)


@dataclass
class DyingStore(MemoryStore):
    """Dies before, or right after, its n-th write: whatever follows fails."""

    dies_at: int
    after: bool
    done: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        self._write(lambda: MemoryStore.put(self, key, data))

    def delete(self, key: str) -> None:
        self._write(lambda: MemoryStore.delete(self, key))

    def _write(self, change: Callable[[], None]) -> None:
        self.done += 1
        if self.done > self.dies_at or (self.done == self.dies_at and not self.after):
            raise StorageError("It died.")
        change()
        if self.done == self.dies_at:
            raise StorageError("It died.")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 5))
def test_a_change_that_dies_anywhere_leaves_a_whole_ring(dies_at: int, after: bool) -> None:
    """Two puts and two deletions: cut before and after each."""
    store = DyingStore(99, after)
    stored = RingStore(store, REPOSITORY)
    stored.create(FIRST.ring)
    store.done, store.dies_at = 0, dies_at
    with pytest.raises(StorageError):
        stored.replace(SECOND.ring)
    assert store.done >= dies_at
    store.dies_at = 99
    (ring,) = stored.read()
    assert ring == (FIRST if (dies_at, after) == (1, False) else SECOND).ring
    stored.heal()
    assert stored.look().warnings == ()
    again = unlock_by_identity(ring, OPS).rotate(WHEN)[0]
    stored.replace(again.ring)
    assert stored.look().rings == (again.ring,)
    generation = again.ring.generation
    assert sorted(store.objects) == [f"keys/{generation:08}.1", f"keys/{generation:08}.2"]


@dataclass
class TakingTurns:
    """A store as one of several sees it: each call waits until the schedule gives it the turn."""

    store: MemoryStore
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    url: str = "turns:"
    staleness: float = 0.0

    def prepare(self) -> None:
        self.store.prepare()

    def _call(self, call: Callable[[], object]) -> object:
        self.arrived.release()
        self.turn.acquire()
        return call()

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        self._call(lambda: self.store.put(key, data))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._call(lambda: self.store.get(key, offset, length))
        assert isinstance(data, bytes)
        return data

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        found = self._call(lambda: list(self.store.list(prefix)))
        assert isinstance(found, list)
        return iter(found)

    def delete(self, key: str) -> None:
        self._call(lambda: self.store.delete(key))

    def time(self) -> float:
        return self.store.time()

    def sweep(self) -> int:
        return 0

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("seed", sample(range(2000), 150, "rings"))
def test_however_changes_interleave_none_that_succeeded_is_lost(seed: int) -> None:
    """Three who change the keys, twice each, every call to the store in a drawn order; a reader looks after each."""
    rng = randomness(f"rings/{seed}")
    store, reader = made()
    succeeded: list[str] = []

    def change(turns: TakingTurns, who: int) -> None:
        stored = RingStore(turns, REPOSITORY)
        try:
            for time in range(2):
                name = f"{who} {time}"
                try:
                    opened = unlock_by_identity(stored.read()[0], OPS)
                    stored.replace(opened.add_recipient(new_identity().recipient, name, WHEN).ring)
                except BusyError:
                    continue
                succeeded.append(name)
        finally:
            alive[who] = False
            turns.arrived.release()

    many = [TakingTurns(store) for _ in range(3)]
    alive = [True] * len(many)
    threads = [threading.Thread(target=change, args=(turns, who)) for who, turns in enumerate(many)]
    for thread in threads:
        thread.start()
    for turns in many:
        turns.arrived.acquire()
    while any(alive):
        # Whoever has the turn keeps it for a while, so that the others fall far behind.
        who = rng.choice([who for who in range(len(many)) if alive[who]])
        for _ in range(rng.choice([1, 1, 2, 4, 12])):
            if alive[who]:
                many[who].turn.release()
                many[who].arrived.acquire()
                reader.read()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    (ring,) = reader.read()
    names = {slot.name for slot in ring.slots}
    assert set(succeeded) <= names
    assert succeeded
    unlock_by_identity(ring, OPS)

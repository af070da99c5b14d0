"""The faults themselves: each does what its name says, once, and a killed process stays dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import StorageError, StoreUnreachable
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import ObjectStore
from tests.repository.faulty_store import Fault, FaultyStore, Killed, Plan

_KILLS = (Fault.KILL_BEFORE, Fault.KILL_AFTER, Fault.KILL_HALFWAY)
_AFTER = (Fault.KILL_AFTER, Fault.BROKEN_AFTER, Fault.LOST_ANSWER)


def _work(store: ObjectStore) -> None:
    store.put("a/1", b"1111")
    assert store.get("a/1") == b"1111"
    store.put("a/2", b"2222")
    store.delete("a/1")


def test_without_a_plan_it_counts() -> None:
    store = FaultyStore(MemoryStore())
    _work(store)
    assert store.writes == [("put", "a/1"), ("put", "a/2"), ("delete", "a/1")]
    assert not store.struck


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("at", range(3))
def test_each_fault_at_each_write(tmp_path: Path, fault: Fault, at: int) -> None:
    inner = FolderStore(tmp_path)
    store = FaultyStore(inner, Plan(at, fault))
    with pytest.raises((StorageError, Killed)) as caught:
        _work(store)
    assert isinstance(caught.value, Killed) == (fault in _KILLS)
    assert isinstance(caught.value, StoreUnreachable) == (fault in (Fault.LOST_ANSWER, Fault.NO_ANSWER))
    assert store.struck
    done = at + (fault in _AFTER)
    assert [one.key for one in inner.list()] == [[], ["a/1"], ["a/1", "a/2"], ["a/2"]][done]
    partial = [path for path in tmp_path.rglob(".*") if path.read_bytes() in (b"11", b"22")]
    assert len(partial) == (fault in (Fault.KILL_HALFWAY, Fault.FULL_HALFWAY) and at < 2)
    if fault in _KILLS:
        for call in (store.list, store.time, lambda: store.delete("a/2"), lambda: store.get("a/2")):
            with pytest.raises(Killed):
                call()
    else:
        _work(store)
        assert [one.key for one in inner.list()] == ["a/2"]


def test_a_lasting_fault_stays() -> None:
    store = FaultyStore(MemoryStore(), Plan(1, Fault.FULL_BEFORE, lasting=True))
    store.put("a/1", b"")
    for _ in range(3):
        with pytest.raises(StorageError, match="No space left"):
            store.put("a/2", b"")

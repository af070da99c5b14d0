"""Trying again: only where that may help, longer each time, and never twice the same effect (ordering.md, 41)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from resurgam.clock import SystemClock
from resurgam.errors import ObjectExists, ObjectMissing, StorageError, StoreUnreachable
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.object_retry import Retrying
from resurgam.stores.objects import StoredObject
from tests.repository.faulty_store import Fault, FaultyStore, Plan
from tests.stores.clocks import StillClock


def _retrying(plan: Plan | None, inner: MemoryStore | None = None) -> tuple[Retrying, FaultyStore, StillClock]:
    faulty, clock = FaultyStore(inner or MemoryStore(), plan), StillClock()
    return Retrying(faulty, clock, lambda: 0.5), faulty, clock


def test_a_put_whose_answer_was_lost_is_done_once() -> None:
    store, faulty, clock = _retrying(Plan(0, Fault.LOST_ANSWER))
    store.put("outcomes/1", b"committed")
    assert store.get("outcomes/1") == b"committed"
    assert faulty.writes == [("put", "outcomes/1")] * 2
    assert len(clock.slept) == 1


def test_a_put_whose_answer_was_lost_may_have_lost_the_race() -> None:
    inner = MemoryStore()
    inner.put("outcomes/1", b"abandoned")
    store, _, _ = _retrying(Plan(0, Fault.NO_ANSWER), inner)
    with pytest.raises(ObjectExists):
        store.put("outcomes/1", b"committed")
    assert inner.get("outcomes/1") == b"abandoned"


def test_a_delete_whose_answer_was_lost() -> None:
    inner = MemoryStore()
    inner.put("intents/1", b"")
    store, _, _ = _retrying(Plan(0, Fault.LOST_ANSWER), inner)
    store.delete("intents/1")
    assert list(inner.list()) == []


def test_it_waits_longer_each_time_and_gives_up() -> None:
    store, faulty, clock = _retrying(Plan(0, Fault.NO_ANSWER, lasting=True))
    with pytest.raises(StoreUnreachable):
        store.put("a/1", b"")
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert len(faulty.writes) == 7


def test_chance_spreads_the_waits() -> None:
    clock = StillClock()
    store = Retrying(FaultyStore(MemoryStore(), Plan(0, Fault.NO_ANSWER, lasting=True)), clock)
    with pytest.raises(StoreUnreachable):
        store.put("a/1", b"")
    for slept, middle in zip(clock.slept, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0], strict=True):
        assert 0.5 * middle <= slept <= 1.5 * middle


@pytest.mark.parametrize("fault", [Fault.FULL_BEFORE, Fault.BROKEN_BEFORE, Fault.BROKEN_AFTER])
def test_what_stays_broken_is_told_at_once(fault: Fault) -> None:
    store, faulty, clock = _retrying(Plan(0, fault))
    with pytest.raises(StorageError, match="injected"):
        store.put("a/1", b"")
    assert (len(faulty.writes), clock.slept) == (1, [])


def test_what_is_not_there_is_told_at_once() -> None:
    store, _, clock = _retrying(None)
    with pytest.raises(ObjectMissing):
        store.get("a/1")
    assert clock.slept == []


def test_a_store_that_never_answered_is_told_of_after_two_seconds_and_not_sooner() -> None:
    told: list[str] = []
    answering = threading.Event()

    class Silent(MemoryStore):
        def list(self, prefix: str = "") -> Iterator[StoredObject]:
            answering.wait(20)
            return super().list(prefix)

    store = Retrying(Silent(), SystemClock(), tell=told.append)
    asking = threading.Thread(target=store.list)
    asking.start()
    time.sleep(1.0)
    assert told == []
    deadline = time.monotonic() + 15
    while not told and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(told) == 1 and told[0].startswith("memory: has not answered yet")
    answering.set()
    asking.join()
    answering.clear()
    threading.Thread(target=store.list, daemon=True).start()
    time.sleep(3)
    assert len(told) == 1  # it has answered before: a listing may take long
    answering.set()


def test_a_store_that_answers_is_told_of_by_nobody() -> None:
    told: list[str] = []
    store = Retrying(MemoryStore(), SystemClock(), tell=told.append)
    with pytest.raises(ObjectMissing):
        store.get("config")
    before = threading.active_count()
    for _ in range(100):
        list(store.list())
    assert threading.active_count() == before and told == []

"""What every store must do: the sentences of `stores/objects.py` (docs/ordering.md, sentence 41).

On memory, a folder and a real S3 server, each also behind `Retrying`; on stubs of GCS and Azure; and on the wrapper
that injects faults, without one.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from resurgam.clock import SystemClock
from resurgam.errors import ObjectExists, ObjectMissing, StorageError
from resurgam.stores.object_cloud import CloudPlace, CloudStore
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.object_opening import open_store
from resurgam.stores.object_retry import Retrying
from resurgam.stores.objects import ObjectStore
from tests.repository.faulty_store import FaultyStore
from tests.s3_server import S3Server
from tests.stores.cloud_stub import CloudStub

MakeStore = Callable[[], ObjectStore]


@pytest.fixture(
    params=["memory", "folder", "s3", "gs", "az", "retrying memory", "retrying folder", "retrying s3", "faulty memory"]
)
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeStore]:
    """Makes an empty store, another one at each call."""
    around, _, kind = request.param.rpartition(" ")
    stack = ExitStack()
    stubs: list[CloudStub] = []
    numbers = itertools.count()
    opened: list[ObjectStore] = []

    def make() -> ObjectStore:
        store: ObjectStore
        if kind == "memory":
            store = MemoryStore()
        elif kind == "folder":
            store = FolderStore(tmp_path / f"store {next(numbers)}")
        elif kind in ("gs", "az"):
            if not stubs:
                stubs.append(stack.enter_context(CloudStub(kind)))
            store = CloudStore(CloudPlace(kind, "bucket", f"some/where/{next(numbers)}"), stubs[0].environment)
        else:
            server: S3Server = request.getfixturevalue("s3_server")
            place = CloudPlace("s3", server.bucket, server.place().partition(f"{server.bucket}/")[2])
            store = CloudStore(place, server.environment)
        if around:
            store = Retrying(store, SystemClock()) if around == "retrying" else FaultyStore(store)
        store.prepare()
        opened.append(store)
        return store

    with stack:
        yield make
        for one in opened:
            one.close()


@pytest.fixture
def store(make_store: MakeStore) -> ObjectStore:
    return make_store()


def _listed(store: ObjectStore, prefix: str = "") -> list[tuple[str, int]]:
    return [(one.key, one.size) for one in store.list(prefix)]


def test_what_was_put_is_there_under_its_key(store: ObjectStore) -> None:
    store.put("packs/ab/abcd", b"pack")
    store.put("config", memoryview(bytearray(b"configuration"))[3:])
    assert store.get("packs/ab/abcd") == b"pack"
    assert store.get("config") == b"figuration"
    assert isinstance(store.get("config"), bytes)


def test_a_memoryview_of_wider_items_is_put_as_its_bytes(store: ObjectStore) -> None:
    numbers = memoryview(b"\1\0\0\0\2\0\0\0").cast("I")
    store.put("numbers", numbers.cast("B"))
    assert store.get("numbers") == b"\1\0\0\0\2\0\0\0"


def test_a_key_is_given_once(store: ObjectStore) -> None:
    store.put("outcomes/1", b"committed")
    with pytest.raises(ObjectExists):
        store.put("outcomes/1", b"abandoned")
    with pytest.raises(ObjectExists):
        store.put("outcomes/1", b"committed, or so")
    with pytest.raises(ObjectExists):
        store.put("outcomes/1", b"")
    assert store.get("outcomes/1") == b"committed"
    assert _listed(store) == [("outcomes/1", 9)]


def test_the_same_bytes_again_are_fine(store: ObjectStore) -> None:
    for _ in range(3):
        store.put("outcomes/1", b"committed")
    assert _listed(store) == [("outcomes/1", 9)]


def test_a_key_is_free_again_after_its_deletion(store: ObjectStore) -> None:
    store.put("intents/1", b"one")
    store.delete("intents/1")
    store.put("intents/1", b"another")
    assert store.get("intents/1") == b"another"


def test_what_is_not_there_is_missing(store: ObjectStore) -> None:
    store.put("packs/ab/abcd", b"pack")
    for key in ("config", "packs/ab/abce", "packs/cd/abcd"):
        for arguments in ((), (0, 0), (0, 5), (7,), (7, 0)):
            with pytest.raises(ObjectMissing):
                store.get(key, *arguments)


def test_deleting_what_is_not_there_does_nothing(store: ObjectStore) -> None:
    store.put("a/1", b"1")
    store.delete("a/2")
    store.delete("b/1")
    store.delete("a/1")
    store.delete("a/1")
    assert _listed(store) == []
    with pytest.raises(ObjectMissing):
        store.get("a/1")


def test_ranges(store: ObjectStore) -> None:
    data = bytes(range(100))
    store.put("packs/ab/abcd", data)
    for offset in (0, 1, 50, 99, 100, 101, 5000):
        assert store.get("packs/ab/abcd", offset) == data[offset:]
        for length in (0, 1, 49, 99, 100, 101, 5000):
            assert store.get("packs/ab/abcd", offset, length) == data[offset : offset + length], (offset, length)


def test_an_empty_object(store: ObjectStore) -> None:
    store.put("intents/1", b"")
    store.put("intents/1", b"")
    with pytest.raises(ObjectExists):
        store.put("intents/1", b"x")
    for arguments in ((), (0, 0), (0, 5), (1,), (1, 1)):
        assert store.get("intents/1", *arguments) == b""
    assert _listed(store) == [("intents/1", 0)]


def test_a_large_object(store: ObjectStore) -> None:
    data = os.urandom(1 << 20) * 64 + b"end"
    store.put("packs/ab/abcd", data)
    assert store.get("packs/ab/abcd") == data
    assert store.get("packs/ab/abcd", (64 << 20) - 2) == data[-5:]
    store.put("packs/ab/abcd", data)
    with pytest.raises(ObjectExists):
        store.put("packs/ab/abcd", data[:-1] + b"X")
    assert _listed(store) == [("packs/ab/abcd", len(data))]


def test_a_listing_is_sorted_by_key_and_cut_by_prefix(store: ObjectStore) -> None:
    keys = ["config", "keys/00000001.1", "keys/00000001.2", "keys/00000010.1", "packs/0a/0a1", "packs/0a/0a2"]
    keys += ["packs/b0/b01", "packs2/b0/b01", "records/1"]
    for key in reversed(keys):
        store.put(key, key.encode())
    assert _listed(store) == [(key, len(key)) for key in keys]
    for prefix in (
        "packs",
        "packs/",
        "packs/0a",
        "packs/0a/",
        "packs/0a/0a1",
        "packs/0",
        "k",
        "keys/00000001",
        "zz",
        "p/",
    ):
        assert _listed(store, prefix) == [(key, len(key)) for key in keys if key.startswith(prefix)], prefix


def test_a_listing_is_whole_over_many_pages(store: ObjectStore) -> None:
    keys = [f"packs/{number % 7:02x}/{number:04x}" for number in range(2100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), keys))
    assert [one.key for one in store.list()] == sorted(keys)
    assert [one.key for one in store.list("packs/03/")] == sorted(key for key in keys if key.startswith("packs/03/"))


def test_stored_at_and_time_are_of_one_clock(store: ObjectStore) -> None:
    before = store.time()
    store.put("a/1", b"1")
    (one,) = store.list()
    after = store.time()
    # Services tell whole seconds.
    assert before - 2 <= one.stored_at <= after + 2
    assert abs(after - time.time()) < 60
    assert _listed(store) == [("a/1", 1)], "asking for the time leaves nothing to be seen"


def test_sweep_leaves_objects_alone(store: ObjectStore) -> None:
    store.put("a/1", b"1")
    assert store.sweep() == 0
    assert _listed(store) == [("a/1", 1)]


def test_what_else_it_says_of_itself(store: ObjectStore) -> None:
    free = store.free_bytes()
    assert free is None or free > 0
    assert store.staleness >= 0
    assert store.url and "secret" not in store.url


def test_names_that_lead_elsewhere_are_no_keys(store: ObjectStore) -> None:
    for key in ("../secret", "packs/../../secret", "/etc/passwd", "", "a//b", ".hidden", "A", "a/", "a\n"):
        for call in (
            lambda key=key: store.put(key, b""),
            lambda key=key: store.get(key),
            lambda key=key: store.delete(key),
        ):
            with pytest.raises(StorageError):
                call()
    assert _listed(store) == []


def test_of_sixteen_that_put_one_key_one_wins(store: ObjectStore) -> None:
    for turn in range(1 if store.url.startswith("s3:") else 20):  # the S3 server takes seconds for a race
        gate = threading.Barrier(16)

        def put(number: int, gate: threading.Barrier = gate, turn: int = turn) -> bool:
            gate.wait()
            try:
                store.put(f"outcomes/{turn}", b"by %d" % number)
            except ObjectExists:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(put, range(16)))
        assert won.count(True) == 1
        assert store.get(f"outcomes/{turn}") == b"by %d" % won.index(True)


def test_sixteen_that_put_the_same_bytes_all_win(store: ObjectStore) -> None:
    gate = threading.Barrier(16)

    def put(_: int) -> None:
        gate.wait()
        store.put("packs/ab/1", b"the same" * 1000)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(16)))
    assert _listed(store) == [("packs/ab/1", 8000)]


def test_listing_beside_puts_and_deletes_shows_all_that_stays(store: ObjectStore) -> None:
    staying = [f"packs/{number:02x}/{number}" for number in range(40)]
    for key in staying:
        store.put(key, b"stays")
    stop = threading.Event()

    def churn(name: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            store.put(f"intents/{name}x{number}", b"goes")
            store.delete(f"intents/{name}x{number}")

    with ThreadPoolExecutor(4) as pool:
        churning = [pool.submit(churn, name) for name in range(4)]
        try:
            for _ in range(20):
                seen = [one.key for one in store.list()]
                assert [key for key in seen if key.startswith("packs")] == sorted(staying)
                assert seen == sorted(set(seen))
        finally:
            stop.set()
        for one in churning:
            one.result()
    assert [one.key for one in store.list()] == sorted(staying)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), offset=st.integers(0, 400), length=st.none() | st.integers(0, 400))
def test_any_range_of_anything(make_store: MakeStore, data: bytes, offset: int, length: int | None) -> None:
    store = make_store()
    store.put("a/1", data)
    assert store.get("a/1", offset, length) == (data[offset:] if length is None else data[offset : offset + length])


_KEYS = st.sampled_from(
    [f"{folder}/{name}" for folder in ("a", "packs/0a", "packs/0b") for name in ("1", "2", "00000003.1")]
)
_DATA = st.binary(max_size=20)


def test_a_store_is_a_dict_that_overwrites_nothing(make_store: MakeStore) -> None:
    class AsADict(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.store = make_store()
            self.model: dict[str, bytes] = {}

        @rule(key=_KEYS, data=_DATA)
        def put(self, key: str, data: bytes) -> None:
            if self.model.setdefault(key, data) == data:
                self.store.put(key, data)
            else:
                with pytest.raises(ObjectExists):
                    self.store.put(key, data)

        @rule(key=_KEYS)
        def get(self, key: str) -> None:
            if key in self.model:
                assert self.store.get(key) == self.model[key]
            else:
                with pytest.raises(ObjectMissing):
                    self.store.get(key)

        @rule(key=_KEYS, offset=st.integers(0, 25), length=st.integers(0, 25))
        def get_range(self, key: str, offset: int, length: int) -> None:
            if key in self.model:
                assert self.store.get(key, offset, length) == self.model[key][offset : offset + length]

        @rule(key=_KEYS)
        def delete(self, key: str) -> None:
            self.store.delete(key)
            self.model.pop(key, None)

        @rule(prefix=st.sampled_from(["", "a", "packs", "packs/", "packs/0", "packs/0b/", "packs/0a/0"]))
        def list(self, prefix: str) -> None:
            assert _listed(self.store, prefix) == [
                (key, len(self.model[key])) for key in sorted(self.model) if key.startswith(prefix)
            ]

        @invariant()
        def nothing_else_is_there(self) -> None:
            assert _listed(self.store) == [(key, len(self.model[key])) for key in sorted(self.model)]

    run_state_machine_as_test(AsADict, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))


def test_a_store_opened_by_its_url_is_the_same(s3_server: S3Server, tmp_path: Path) -> None:
    for url in (s3_server.place(), f"file://{tmp_path}/with%20blank", str(tmp_path / "plain")):
        one = open_store(url, s3_server.environment)
        one.prepare()
        one.put("a/1", b"1")
        other = open_store(one.url, s3_server.environment)
        assert other.get("a/1") == b"1"
        assert _listed(other) == [("a/1", 1)]

"""The folder store in every state that a crash can leave (docs/ordering.md, sentence 41), and the simulator itself."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resurgam import durable
from resurgam.errors import ObjectExists
from resurgam.stores.object_folder import FolderStore
from tests.repository.crashes import Trace, record, states

FOREIGN = ("packs/dd/died", "packs/ee/copied")


def _as_a_process_that_died(root: Path) -> None:
    """What others left: a pack published, and the machine's power gone before its folder, and that one's name, were
    durable; and a pack that was copied there by a tool that syncs nothing."""
    system = durable.system
    for key, synced in ((FOREIGN[0], True), (FOREIGN[1], False)):
        file = root / key
        system.mkdir(file.parent, 0o700)
        fd = system.open(root / "packs/.x", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        durable.write_all(fd, key.encode() * 10)
        if synced:
            system.fsync(fd)
        system.close(fd)
        system.rename(root / "packs/.x", file)


def _work(trace: Trace) -> None:
    """Everything that a store does, and what it finds of others."""
    root = trace.root / "disk" / "repository"
    store = trace.watch(FolderStore(root))
    store.prepare()
    store.put("config", b"configuration")
    for number in range(9):
        store.put(f"packs/a{number % 2}/{number}", b"pack %d" % number * 20)
    store.put("packs/a0/0", b"pack 0" * 20)
    with contextlib.suppress(ObjectExists):
        store.put("packs/a0/0", b"other")
    store.put("empty/1", b"")
    store.delete("packs/a0/2")
    store.delete("packs/a0/nothing")
    store.delete("intents/none")
    store.put("packs/a0/2", b"again")
    store.delete("config")
    _as_a_process_that_died(root)
    other = trace.watch(FolderStore(root))
    for key in FOREIGN:
        other.put(key, key.encode() * 10)
    other.put("packs/ee/new", b"beside it")
    other.put("outcomes/1", b"committed")


def _visit(trace: Trace) -> tuple[int, list[str]]:
    """The number of states, and the promises that broke in them."""
    number = 0
    broken: list[str] = []
    for state in states(trace, seed=7):
        number += 1
        broken += [f"{promise}: {state}" for promise in state.broken_promises(trace.root / "disk/repository", FOREIGN)]
    return number, broken


def test_sentence_41_what_was_acknowledged_is_there_whole_after_any_crash(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with record(tmp_path) as trace:
        _work(trace)
    begun = time.perf_counter()
    number, broken = _visit(trace)
    seconds = time.perf_counter() - begun
    during = f"{len(trace.operations)} operations"
    tell(f"folder store: {number} states after a crash during {during}, {number / seconds:.0f} a second")
    assert broken == []
    assert number > 1000
    assert len(trace.operations) > 100


def test_every_fsync_of_the_folder_store_is_needed(tmp_path: Path, tell: Callable[[str], None]) -> None:
    (tmp_path / "all").mkdir()
    with record(tmp_path / "all") as trace:
        _work(trace)
    ours = [site for site in trace.sites if "object_folder." in site]
    for number, site in enumerate(ours):
        root = tmp_path / str(number)
        root.mkdir()
        with record(root, without=site) as trace:
            _work(trace)
        assert _visit(trace)[1] != [], f"nothing is lost without {site}"
    tell(f"folder store: without any one of its {len(ours)} fsync call sites something is lost")
    assert len(ours) >= 7


def test_sentence_41_holds_for_threads(tmp_path: Path, tell: Callable[[str], None]) -> None:
    root = tmp_path / "disk/repository"
    with record(tmp_path) as trace:
        store = trace.watch(FolderStore(root))
        store.prepare()

        def work(name: int) -> None:
            for number in range(3):
                store.put(f"packs/{number}0/{name}", b"%d" % name * 50)
            store.delete(f"packs/00/{name}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    number, broken = _visit(trace)
    tell(f"folder store, eight threads: {number} states after a crash")
    assert broken == []
    assert number > 500


def test_a_state_on_a_real_disk_is_the_same_state(tmp_path: Path) -> None:
    with record(tmp_path) as trace:
        _work(trace)
    for number, state in enumerate(list(states(trace, seed=3))[::97]):
        copy = tmp_path.parent / f"{tmp_path.name} state {number}"
        state.materialise(copy)
        if (copy / "disk/repository").is_dir():
            store = FolderStore(copy / "disk/repository")
            assert {one.key: store.get(one.key) for one in store.list()} == state.objects(tmp_path / "disk/repository")
            memory = state.store(tmp_path / "disk/repository")
            assert [one.key for one in memory.list()] == [one.key for one in store.list()]
        else:
            assert state.objects(tmp_path / "disk/repository") == {}


def test_after_any_crash_the_store_takes_every_put_again(tmp_path: Path) -> None:
    with record(tmp_path) as trace:
        _work(trace)
    wanted = {step.key: step.data for step in trace.steps}
    for number, state in enumerate(list(states(trace, seed=5))[::41]):
        copy = tmp_path.parent / f"{tmp_path.name} again {number}"
        state.materialise(copy)
        store = FolderStore(copy / "disk/repository")
        store.prepare()
        if not set(FOREIGN) <= {step.key for step in state.acknowledged}:
            for key in FOREIGN:
                store.delete(key)
        for key, data in wanted.items():
            if data is not None and key not in ("config", "packs/a0/2"):
                store.put(key, data)
                assert store.get(key) == data


@pytest.mark.parametrize("synced", ["nothing", "file", "folder"])
def test_the_simulator_knows_what_an_fsync_does(tmp_path: Path, synced: str) -> None:
    with record(tmp_path) as trace:
        fd = durable.system.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        durable.write_all(fd, b"1234")
        if synced == "file":
            durable.system.fsync(fd)
        durable.system.close(fd)
        if synced == "folder":
            durable.fsync_folder(tmp_path)
        trace.mark("end")
    found = {state.objects().get("a") for state in states(trace) if state.marks}
    assert (
        found
        == {
            "nothing": {None, b"", b"12", b"\0\0\0\0", b"1234"},
            "file": {None, b"1234"},
            "folder": {b"", b"12", b"\0\0\0\0", b"1234"},
        }[synced]
    )


def test_the_simulator_begins_with_what_is_there(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "repository")
    store.prepare()
    store.put("packs/aa/1", b"old")
    with record(tmp_path) as trace:
        trace.watch(store).delete("packs/aa/1")
    found = [(state.objects(store.path), len(state.acknowledged)) for state in states(trace)]
    assert found[0] == ({"packs/aa/1": b"old"}, 0)
    assert found[-1] == ({}, 1)
    assert ({"packs/aa/1": b"old"}, 1) not in found

"""Kills, full disks, broken disks and lost answers at every write of a backup, a deletion and a prune (41 to 61).

No committed backup is lost, nothing is wedged, and the next runs succeed unattended.
"""

from __future__ import annotations

import errno
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from resurgam.errors import ResurgamError
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import ObjectStore
from tests.repository.aftermath import Aftermath, SetClock
from tests.repository.faulty_store import Fault, FaultyStore, Killed, Plan
from tests.repository.faulty_system import KILL, SHORT, Failure, faulty_system
from tests.repository.simulated_world import EPOCH, inline
from tests.repository.simulation import back_up
from tests.sampling import sample

AFTER = Aftermath(variant=1)
WORKS = ("backup", "delete and prune")
FAILURES = (("", KILL), ("write", SHORT), ("write", errno.ENOSPC), ("fsync", errno.EIO), ("rename2", errno.EIO))


def work(name: str, store: ObjectStore) -> dict[bytes, int]:
    """The run; answers what it said to be committed."""
    made = AFTER.scene()
    if name == "backup":
        return {back_up(made.opened(store), 5, AFTER.blocks[5], EPOCH): 5}
    made.opened(store).delete([AFTER.manifests[1]])
    made.collect(store, SetClock())
    return {}


def survives(name: str, store: ObjectStore) -> tuple[dict[bytes, int], str]:
    """What was said to be committed, and how the run ended; anything but a kill and our own errors fails the test."""
    try:
        return work(name, store), "well"
    except (Killed, ResurgamError) as error:
        return {}, type(error).__name__


def deleted(name: str) -> set[bytes]:
    return set() if name == "backup" else {AFTER.manifests[1]}


def memory() -> MemoryStore:
    store = MemoryStore(lambda: EPOCH)
    store.objects = {key: (data, EPOCH - 9 * 86_400) for key, data in AFTER.objects.items()}
    return store


@pytest.mark.parametrize("name", WORKS)
def test_any_fault_at_any_write(name: str, tell: Callable[[str], None]) -> None:
    with inline("faults"):
        counting = FaultyStore(memory())
        work(name, counting)
    cases = list(itertools.product(range(len(counting.writes)), Fault, (False, True)))
    ends: Counter[str] = Counter()
    chosen = sample(cases, 150, f"faults {name}")
    for at, fault, lasting in chosen:
        with inline("faults"):
            inner = memory()
            told, end = survives(name, FaultyStore(inner, Plan(at, fault, lasting)))
            ends[end] += 1
            objects = {key: data for key, (data, _) in inner.objects.items()}
            assert AFTER.problem(objects, told, deleted(name)) == "", (at, fault, lasting)
    tell(
        f"{name}: {len(chosen)} of {len(cases)} faults of the store at its {len(counting.writes)} writes: {dict(ends)}"
    )
    assert len(counting.writes) > 10 and ends["Killed"] and ends["StorageError"]


@pytest.mark.parametrize("name", WORKS)
def test_any_failing_call_of_the_system(name: str, tmp_path: Path, tell: Callable[[str], None]) -> None:
    with inline("calls"), faulty_system() as system:
        work(name, folder(tmp_path / "counting"))
    counts = Counter(system.calls)
    counts[""] = len(system.calls)
    cases = [(call, at, code) for call, code in FAILURES for at in range(counts[call])]
    ends: Counter[str] = Counter()
    chosen = sample(cases, 100, f"calls {name}")
    for number, (call, at, code) in enumerate(chosen):
        with inline("calls"):
            store = folder(tmp_path / str(number))
            with faulty_system(Failure(call, at, code)):
                told, end = survives(name, store)
            ends[end] += 1
            found = {one.key: store.get(one.key) for one in store.list()}
            assert AFTER.problem(found, told, deleted(name)) == "", (call, at, code)
            assert code != SHORT or end == "well"
    tell(f"{name}: {len(chosen)} of {len(cases)} failures at its {counts['']} system calls: {dict(ends)}")
    assert ends["well"] and ends["Killed"] and ends["StorageError"]


def folder(path: Path) -> FolderStore:
    """A folder with the same objects, written without ceremony."""
    for key, data in AFTER.objects.items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(data)
    return FolderStore(path)

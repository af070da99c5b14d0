"""Kills, full disks, broken disks and lost answers at every write of a backup, a deletion and a prune, a rotation with
its re-encryption, and an import (41 to 62, 66).

No committed backup is lost, nothing is wedged, and the same run again and the next ones succeed unattended.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from resurgam.errors import ResurgamError
from resurgam.stores.object_folder import FolderStore
from resurgam.stores.objects import ObjectStore
from tests.repository.faulty_store import Fault, FaultyStore, Killed, Plan
from tests.repository.faulty_system import SHORT, failures_at, faulty_system
from tests.repository.simulated_world import inline
from tests.repository.works import WORKS, Work
from tests.sampling import sample


def survives(work: Work, store: ObjectStore) -> tuple[dict[bytes, int], str]:
    """What was said to be committed, and how the run ended; anything but a kill and our own errors fails the test."""
    try:
        return work.on(store), "well"
    except (Killed, ResurgamError) as error:
        return {}, type(error).__name__


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_any_fault_at_any_write(work: Work, tell: Callable[[str], None]) -> None:
    with inline("faults"):
        counting = FaultyStore(work.memory())
        work.on(counting)
    cases = list(itertools.product(range(len(counting.writes)), Fault, (False, True)))
    ends: Counter[str] = Counter()
    chosen = sample(cases, 150, f"faults {work}")
    for at, fault, lasting in chosen:
        with inline("faults"):
            inner = work.memory()
            told, end = survives(work, FaultyStore(inner, Plan(at, fault, lasting)))
            ends[end] += 1
            objects = {key: data for key, (data, _) in inner.objects.items()}
            assert work.after.problem(objects, told, set(work.deleted)) == "", (at, fault, lasting)
    tell(
        f"{work}: {len(chosen)} of {len(cases)} faults of the store at its {len(counting.writes)} writes: {dict(ends)}"
    )
    assert len(counting.writes) > 5 and ends["Killed"] and ends["StorageError"]


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_any_failing_call_of_the_system(work: Work, tmp_path: Path, tell: Callable[[str], None]) -> None:
    with inline("calls"), faulty_system() as system:
        work.on(folder(work, tmp_path / "counting"))
    cases = failures_at(system.calls)
    ends: Counter[str] = Counter()
    chosen = sample(cases, 100, f"calls {work}")
    for number, failure in enumerate(chosen):
        with inline("calls"):
            store = folder(work, tmp_path / str(number))
            with faulty_system(failure):
                told, end = survives(work, store)
            ends[end] += 1
            found = {one.key: store.get(one.key) for one in store.list()}
            assert work.after.problem(found, told, set(work.deleted)) == "", failure
            assert failure.code != SHORT or end == "well"
    tell(f"{work}: {len(chosen)} of {len(cases)} failures at its {len(system.calls)} system calls: {dict(ends)}")
    assert ends["well"] and ends["Killed"] and ends["StorageError"]


def folder(work: Work, path: Path) -> FolderStore:
    """A folder with the same objects, written without ceremony."""
    for key, data in work.after.objects.items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(data)
    return FolderStore(path)

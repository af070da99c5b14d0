"""Runs on a folder, cut off by a crash of the machine at every write, fsync and rename (41 to 47, 51 to 62, 66)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from resurgam.stores.object_folder import FolderStore
from tests.repository.crashes import Trace, record, states
from tests.repository.simulated_world import inline
from tests.repository.works import BACKUP, IMPORT, PRUNE, ROTATION, WORKS, Work

# How many states there are at least, and how many different contents of the store among them. With threads it depends
# on the order in which they came: 249 to 255 were seen of a backup.
LEAST = {BACKUP: (250, 15), PRUNE: (150, 15), ROTATION: (300, 30), IMPORT: (100, 5)}


def recorded(root: Path, work: Work, without: str | None = None, *, threads: bool = False) -> Trace:
    """What the run does to a folder that holds what was there before; a mark for each backup that it says is
    committed."""
    folder = root / "repository"
    FolderStore(folder).prepare()
    for key, data in work.after.objects.items():
        FolderStore(folder).put(key, data)
    with nullcontext() if threads else inline("crash"), record(root, without) as trace:
        for manifest, number in work.on(trace.watch(FolderStore(folder))).items():
            trace.mark(f"{manifest.hex()} {number}")
    return trace


def visit(trace: Trace, work: Work) -> tuple[int, list[str]]:
    """How many states, and what does not hold in them."""
    folder, number, problems = trace.root / "repository", 0, []
    for state in states(trace, seed=11):
        number += 1
        marks = (mark.split() for mark in state.marks)
        told = {bytes.fromhex(manifest): int(backup) for manifest, backup in marks}
        problems += state.broken_promises(folder)
        if problem := work.after.problem(state.objects(folder), told, set(work.deleted)):
            problems.append(f"{problem}: {state}")
        if problems:
            break
    return number, problems


@pytest.mark.parametrize(("work", "threads"), [*((work, False) for work in WORKS), (BACKUP, True)], ids=str)
def test_a_crash_loses_nothing_and_the_next_runs_succeed(
    tmp_path: Path, work: Work, threads: bool, tell: Callable[[str], None]
) -> None:
    trace = recorded(tmp_path, work, threads=threads)
    work.after.judged.clear()  # other tests may have met the same contents
    with inline("after"):
        number, problems = visit(trace, work)
    contents = len(work.after.judged)
    during = f"{len(trace.operations)} operations, {contents} different contents of the store"
    tell(f"{work}{' with threads' * threads}: {number} states after a crash during {during}")
    assert problems == []
    least = LEAST[work]
    assert number > least[0] - 20 * threads and contents > least[1]


@pytest.mark.parametrize("work", WORKS, ids=str)
def test_every_fsync_is_needed(tmp_path: Path, work: Work, tell: Callable[[str], None]) -> None:
    (tmp_path / "all").mkdir()
    sites = list(recorded(tmp_path / "all", work).sites)
    for number, site in enumerate(sites):
        (tmp_path / str(number)).mkdir()
        trace = recorded(tmp_path / str(number), work, site)
        with inline("after"):
            assert visit(trace, work)[1] != [], f"nothing is lost without {site}"
    tell(f"{work}: without any one of its {len(sites)} fsync call sites something is lost")
    assert len(sites) >= 4

"""A deletion and a prune in a folder, cut off by a crash of the machine at every change (ordering.md, 51 to 60)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from resurgam.stores.object_folder import FolderStore
from tests.repository.aftermath import Aftermath, SetClock
from tests.repository.crashes import Trace, record, states
from tests.repository.simulated_world import inline


def pruned(root: Path, after: Aftermath, without: str | None = None) -> Trace:
    folder = root / "repository"
    FolderStore(folder).prepare()
    for key, data in after.objects.items():
        FolderStore(folder).put(key, data)
    with inline("crash"), record(root, without) as trace:
        store = trace.watch(FolderStore(folder))
        trace.mark("deleting")
        made = after.scene()
        made.opened(store).delete([after.manifests[1]])
        trace.mark("deleted")
        result = made.collect(store, SetClock())
        trace.mark("pruned")
        assert result.deleted_packs and result.plan.copied
    return trace


def visit(trace: Trace, after: Aftermath) -> tuple[int, list[str]]:
    folder, number, problems = trace.root / "repository", 0, []
    for state in states(trace, seed=12):
        number += 1
        problems += state.broken_promises(folder)
        if problem := after.problem(state.objects(folder), {}, {after.manifests[1]}):
            problems.append(f"{problem}: {state}")
        if problems:
            break
    return number, problems


def test_a_crash_in_a_prune_loses_nothing_and_the_next_runs_succeed(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    after = Aftermath(variant=1)
    trace = pruned(tmp_path, after)
    with inline("after"):
        number, problems = visit(trace, after)
    during = f"{len(trace.operations)} operations, {len(after.judged)} different contents of the store"
    tell(f"deletion and prune: {number} states after a crash during {during}")
    assert problems == []
    assert number > 150 and len(after.judged) > 15


def test_every_fsync_of_a_prune_is_needed(tmp_path: Path, tell: Callable[[str], None]) -> None:
    after = Aftermath(variant=1)
    (tmp_path / "all").mkdir()
    sites = list(pruned(tmp_path / "all", after).sites)
    for number, site in enumerate(sites):
        (tmp_path / str(number)).mkdir()
        trace = pruned(tmp_path / str(number), after, site)
        with inline("after"):
            assert visit(trace, after)[1] != [], f"nothing is lost without {site}"
    tell(f"deletion and prune: without any one of its {len(sites)} fsync call sites something is lost")
    assert len(sites) >= 4

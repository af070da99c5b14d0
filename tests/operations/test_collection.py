"""A prune of a repository: what it removes, what it must not, when it stops (docs/ordering.md, 51 to 61)."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest

from resurgam.clock import SystemClock
from resurgam.errors import CollectionRefused, KeyRefused, NotFoundError, StorageError
from resurgam.keys.secrets import Secrets, full_secrets, new_private_key
from resurgam.operations import collection
from resurgam.operations.collection import CollectionResult, Limits, collect, foresee
from resurgam.operations.progress import Silent
from resurgam.operations.reencryption import outdated_bytes
from resurgam.operations.repair import repair
from resurgam.repository.repository import Repository
from resurgam.repository.run import RepositoryRun, backing_up
from resurgam.stores.object_memory import MemoryStore
from tests.repository.scenes import (
    PRIVATE,
    ROOT,
    START,
    Files,
    contents,
    new_repository,
    reopened,
    sample_dump,
    sample_files,
    secrets_of,
    stored,
    take,
)

ACCEPT = Limits(accept=True)


def prune(repository: Repository, limits: Limits = ACCEPT) -> CollectionResult:
    return collect(reopened(repository), limits, clock=SystemClock(), progress=Silent(), pack_size=1 << 20)


def planned(repository: Repository, *doomed: bytes, limits: Limits = ACCEPT, refuse: bool = True) -> CollectionResult:
    return foresee(
        reopened(repository), limits, frozenset(doomed), clock=SystemClock(), progress=Silent(), refuse=refuse
    )


def bytes_of(repository: Repository) -> int:
    return sum(one.size for one in repository.store.list("packs/"))


def running(repository: Repository) -> AbstractContextManager[RepositoryRun]:
    return backing_up(repository, "app_backup_20270101_000000", "app", mtime_ns=0, now_ns=0, last=None)


def three_backups(store: MemoryStore | None = None) -> tuple[Repository, Files, list[bytes]]:
    """The files stay, the dump is another one each time."""
    repository, files = new_repository(store), sample_files(count=50)
    made: list[bytes] = []
    for day in range(3):
        last = stored(repository, made[-1]) if made else None
        made.append(take(repository, day, files, sample_dump(day, 3 << 20), last=last))
    return repository, files, made


def test_nothing_is_removed_while_everything_is_needed() -> None:
    repository, files, made = three_backups()
    before = bytes_of(repository)
    result = prune(repository)
    assert (result.deleted_packs, bytes_of(repository)) == (0, before)
    assert all(
        contents(reopened(repository), one)[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"] for one in made
    )


class _Waited(SystemClock):
    """Sleeps at once, and knows how long that would have been."""

    seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_54_a_stale_listing_is_waited_for_only_where_something_goes() -> None:
    store, clock = MemoryStore(), _Waited()
    store.staleness = 60.0
    repository, _, made = three_backups(store)

    def waited() -> tuple[float, int]:
        clock.seconds = 0.0
        done = collect(reopened(repository), ACCEPT, clock=clock, progress=Silent(), pack_size=1 << 20)
        return clock.seconds, done.waiting

    assert waited() == (0.0, 0)
    reopened(repository).delete([made[0]])
    # Twice until who lists sees the tombstones and is seen, once for the copies, once for the tombstones' end.
    assert waited() == (4 * 60.0, 0)
    assert waited() == (0.0, 0)


def test_whether_somebody_runs_is_told_of_a_disk_that_cannot_be_written_to() -> None:
    class ReadOnly(MemoryStore):
        def time(self) -> float:
            raise StorageError("A folder tells it by writing a file.")

    store = MemoryStore()
    three_backups(store)
    mounted = ReadOnly()
    mounted.objects = store.objects
    assert not collection.running(Repository.open(mounted, secrets_of))


def test_a_deleted_backup_gives_back_what_only_it_needed() -> None:
    repository, files, made = three_backups()
    before = bytes_of(repository)
    plan = planned(repository, made[0]).plan
    reopened(repository).delete([made[0]])
    with pytest.raises(NotFoundError):
        reopened(repository).delete([made[0]])
    assert bytes_of(repository) == before
    result = prune(repository)
    assert result.plan.freed == plan.freed
    assert bytes_of(repository) < before - 1_000_000
    assert {one.id for one in reopened(repository).backups()[0]} == set(made[1:])
    for day, one in enumerate(made[1:], 1):
        found = contents(reopened(repository), one)
        assert found[b"database.sql"] == sample_dump(day, 3 << 20)
        assert found[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]
    assert prune(repository).deleted_packs == 0


def test_58_a_prune_that_frees_most_asks_first() -> None:
    repository, _, made = three_backups()
    before = bytes_of(repository)
    with pytest.raises(CollectionRefused, match="more than 50 %"):
        planned(repository, *made[:2], limits=Limits())
    assert planned(repository, made[0], limits=Limits()).plan.freed  # one that makes room is no accident
    assert planned(repository, *made, limits=Limits(), refuse=False).plan.freed
    reopened(repository).delete(made)
    with pytest.raises(CollectionRefused, match="more than 50 %"):
        prune(repository, Limits())
    assert bytes_of(repository) == before and not list(repository.store.list("tombstones/"))
    prune(repository)
    assert bytes_of(repository) == 0


def test_57_what_is_missing_stops_a_prune() -> None:
    repository, _, made = three_backups()
    reopened(repository).delete([made[0]])
    before = {one.key for one in repository.store.list()}
    gone = f"manifests/{made[1].hex()}"
    raw = repository.store.get(gone)
    repository.store.delete(gone)
    with pytest.raises(CollectionRefused, match=made[1].hex()):
        prune(repository)
    assert {one.key for one in repository.store.list()} == before - {gone}
    repository.store.put(gone, raw)
    assert prune(repository).deleted_packs


def test_57_an_outcome_that_went_with_its_manifest_is_missed_too() -> None:
    repository, _, made = three_backups()
    for folder in ("manifests", "outcomes"):
        repository.store.delete(f"{folder}/{made[0].hex()}")
    with pytest.raises(CollectionRefused, match=made[0].hex()):
        prune(repository)


def test_57_a_machine_remembers_what_it_saw() -> None:
    repository, _, made = three_backups()
    for folder in ("manifests", "outcomes"):  # the newest: no other manifest names it
        repository.store.delete(f"{folder}/{made[2].hex()}")
    with pytest.raises(CollectionRefused, match=made[2].hex()):
        prune(repository, Limits(accept=True, remembered=frozenset(made)))


def test_60_what_dead_runs_left_is_swept() -> None:
    repository = three_backups()[0]
    clean = {one.key for one in repository.store.list()}
    with (
        pytest.raises(KeyError),
        backing_up(repository, "app_backup_20270101_000000", "app", mtime_ns=0, now_ns=0, last=None) as run,
    ):
        for offer in sample_files(7, 30).offers():
            run.writer.offer(offer)
        run.writer.finish(b"{}", 0)
        raise KeyError("killed before its manifest")
    assert prune(repository).deleted_packs == 2
    left = {one.key for one in repository.store.list() if not one.key.startswith(("records/", "indexes/"))}
    assert left == {key for key in clean if not key.startswith(("records/", "indexes/"))}


def test_61_young_packs_are_left_alone_while_somebody_runs() -> None:
    repository = three_backups()[0]
    with running(repository) as run:
        for offer in sample_files(7, 30).offers():
            run.writer.offer(offer)
        run.writer.finish(b"{}", 0)
        before = bytes_of(repository)
        result = prune(repository)
        assert (result.deleted_packs, result.plan.spared) == (0, 2)
        assert bytes_of(repository) == before


def test_57_a_lost_outcome_does_not_make_a_backup_an_unfinished_one() -> None:
    repository, _, made = three_backups()
    repository.store.delete(f"outcomes/{made[0].hex()}")
    before = {one.key for one in repository.store.list()}
    with pytest.raises(CollectionRefused, match=f"outcome {made[0].hex()}"):
        prune(repository)
    assert {one.key for one in repository.store.list()} == before


def test_66_after_a_rotation_everything_is_sealed_to_the_new_epoch() -> None:
    repository, files, made = three_backups()
    second = new_private_key()

    def rotated(name: bytes) -> Secrets:
        return full_secrets(ROOT, name, {1: PRIVATE, 2: second})

    def newest_only(name: bytes) -> Secrets:
        return full_secrets(ROOT, name, {2: second})

    assert outdated_bytes(reopened(repository, rotated)) == bytes_of(repository)
    with pytest.raises(KeyRefused):
        reopened(repository, newest_only).manifest(made[0])
    options = {"clock": SystemClock(), "progress": Silent(), "pack_size": 1 << 20}
    collect(reopened(repository, rotated), ACCEPT, **options)  # type: ignore[arg-type]
    assert outdated_bytes(reopened(repository, rotated)) == 0
    alone = reopened(repository, newest_only)
    backups, unreadable = alone.backups()
    assert len(backups) == 3 and not unreadable
    for one in backups:
        with alone.open_backup(one) as backup:
            found = {entry.path: b"".join(blocks) for entry, blocks in backup.walk()}
        assert found[b"files/u/scan.bin"] == files.content[b"files/u/scan.bin"]
    assert collect(reopened(repository, rotated), ACCEPT, **options).deleted_packs == 0  # type: ignore[arg-type]


def test_repair_settles_what_is_lost_and_puts_again_what_can_be() -> None:
    repository, files = new_repository(), sample_files(count=50)
    made = [take(repository, day, files) for day in range(3)]
    repository.store.delete(f"outcomes/{made[0].hex()}")
    victim = max(repository.index.packs, key=lambda pack: repository.index.packs[pack].size)
    repository.store.delete(f"packs/{victim.hex()[:2]}/{victim.hex()}")
    options = {"heal_keys": tuple, "today": START, "progress": Silent()}
    before = {one.key for one in repository.store.list()}
    before_it = repair(reopened(repository), dry_run=True, **options)  # type: ignore[arg-type]
    assert {one.key for one in repository.store.list()} == before
    done = repair(reopened(repository), **options)  # type: ignore[arg-type]
    assert set(before_it.lost) <= set(done.lost) and len(done.lost) == 2
    assert {one.id for one in reopened(repository).backups()[0]} == set(made)
    assert len(done.hurt) == 3  # the scan is in all of them
    take(reopened(repository), 4, files)  # it still exists at its source
    assert not repair(reopened(repository), **options).hurt  # type: ignore[arg-type]
    prune(repository)
    scan = b"files/u/scan.bin"
    assert all(contents(reopened(repository), one)[scan] == files.content[scan] for one in made)

"""A repository that was written once: later versions must open, verify, list, restore and export it, bit for bit."""

from __future__ import annotations

import tarfile

from blake3 import blake3

from resurgam.clock import SystemClock
from resurgam.operations.collection import Limits, collect
from resurgam.operations.progress import Silent
from resurgam.operations.verify_repository import verify_repository
from resurgam.repository.repository import Repository
from resurgam.stores.object_memory import MemoryStore
from tests.repository.golden_repository import PACK, TAR, dump, files, opened
from tests.repository.scenes import START, contents, stored, take

DIGEST = "4bd80779efaa2cd710819d350ab493da"
EXPORTS = {
    "app_backup_20260102_020000": "a57536613ff0fa9d7a063cd6711b1c9e",
    "app_backup_20260103_020000": "d95191733be59539b8e075a63b863101",
    "app_backup_20260104_020000": "fae99c72b86d7e924cd9775e7d4af321",
}


def golden() -> Repository:
    store = MemoryStore()
    with tarfile.open(TAR) as tar:
        for entry in tar:
            content = tar.extractfile(entry)
            assert content is not None
            store.put(entry.name, content.read())
    return opened(store)


def test_nobody_wrote_it_anew() -> None:
    assert blake3(TAR.read_bytes()).hexdigest(16) == DIGEST


def test_it_lists_and_gives_back_every_byte() -> None:
    repository = golden()
    backups, unreadable = repository.backups()
    assert not unreadable
    days = {one.manifest.head.sequence - 1: one for one in backups}
    assert sorted(days) == [1, 2, 3]
    for day, backup in days.items():
        found = contents(repository, backup.id)
        assert found.pop(b"database.sql") == dump(day)
        assert {path: data for path, data in found.items() if path.startswith(b"files/")} == files(day).content


def test_it_exports_the_same_bytes_as_ever() -> None:
    repository = golden()
    exports = {
        one.manifest.head.name: blake3(b"".join(repository.open_backup(one).export())).hexdigest(16)
        for one in repository.backups()[0]
    }
    assert exports == EXPORTS


def test_all_of_it_is_sound() -> None:
    verdict = verify_repository(golden(), full=True, today=START, progress=Silent())
    assert verdict.sound and len(verdict.whole) == 3 and verdict.packs_read == verdict.packs > 5


def test_it_takes_backups_and_prunes_still() -> None:
    repository = golden()
    newest = max(repository.backups()[0], key=lambda one: one.manifest.head.sequence)
    made = take(repository, 4, files(3), dump(3), last=newest, pack_size=PACK)
    assert stored(repository, made).manifest.head.added < newest.manifest.head.stored
    repository.delete([newest.id])
    collect(repository, Limits(accept=True), clock=SystemClock(), progress=Silent(), pack_size=PACK)
    assert contents(opened(repository.store), made)[b"database.sql"] == dump(3)  # type: ignore[arg-type]

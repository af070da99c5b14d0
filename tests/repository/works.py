"""The runs that are cut off at every write: by a crash (test_crashes_runs.py), by a fault (test_faults_runs.py).

Each is a run of the real code on a store that holds `Aftermath.objects`, and knows what must hold after it. A rotation
goes on until the prune that follows it has sealed everything anew (sentence 66).
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resurgam.catalog.catalog import Catalog
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Silent
from resurgam.operations.reencryption import outdated_bytes
from resurgam.operations.repository_holdings import RepositoryHoldings
from resurgam.operations.repository_keys import rotate
from resurgam.operations.repository_opening import RepositoryAccess
from resurgam.operations.transfer import import_archive
from resurgam.repository.ring_store import RingStore
from resurgam.stores.folder import BackupFolder
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import ObjectStore
from tests.repository.aftermath import Aftermath, SetClock
from tests.repository.keyed import by_ring, unlocking
from tests.repository.simulated_world import EPOCH
from tests.repository.simulation import DUMP, back_up, wanted

_NUMBER = 5
_NAME = f"app_backup_{20260600 + _NUMBER}_000000"


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """`run` answers what it says to be committed, numbers by manifest; `deleted` are backups that it may delete."""

    name: str
    after: Aftermath
    run: Callable[[Aftermath, ObjectStore], dict[bytes, int]]
    deleted: frozenset[bytes] = frozenset()

    def __str__(self) -> str:
        return self.name

    def on(self, store: ObjectStore) -> dict[bytes, int]:
        return self.run(self.after, store)

    def memory(self) -> MemoryStore:
        """The repository as it is before, days old."""
        store = MemoryStore(lambda: EPOCH)
        store.objects = {key: (data, EPOCH - 9 * 86_400) for key, data in self.after.objects.items()}
        return store


def _back_up(after: Aftermath, store: ObjectStore) -> dict[bytes, int]:
    return {back_up(after.scene().opened(store), _NUMBER, after.blocks[_NUMBER], EPOCH): _NUMBER}


def _delete_and_prune(after: Aftermath, store: ObjectStore) -> dict[bytes, int]:
    made = after.scene()
    made.opened(store).delete([after.manifests[1]])
    result = made.collect(store, SetClock())
    assert result.deleted_packs and result.plan.copied
    return {}


def _rotate(after: Aftermath, store: ObjectStore) -> dict[bytes, int]:
    made, clock = after.scene(), SetClock()
    access = _access(store, clock, Path("/nowhere"))
    before = RingStore(store, made.opened(store).keys.repository).read()[0].newest.number
    assert rotate(access.keys()).ring.newest.number == before + 1
    made.collect(store, clock)
    repository = made.opened(store)
    assert repository.keys.epoch.number == before + 1 and outdated_bytes(repository) == 0
    return {}


def _import(after: Aftermath, store: ObjectStore) -> dict[bytes, int]:
    clock = SetClock()
    with tempfile.TemporaryDirectory(prefix="import-") as made:
        place = Path(made)
        access, folder = _access(store, clock, place / "cache"), BackupFolder(place)
        holdings = RepositoryHoldings(folder, access, clock, prune_limit=50, read_all=False)
        catalog = Catalog.open(place / "catalog.sqlite")
        try:
            inventory = Inventory(folder, holdings, None, catalog)
            done = import_archive(inventory, _archive(after, place), Silent())
            return {bytes.fromhex(done.place.rpartition("/")[2]): _NUMBER}
        finally:
            catalog.close()


def _access(store: ObjectStore, clock: SetClock, cache: Path) -> RepositoryAccess:
    return RepositoryAccess("", unlocking(), {}, cache, "app", clock, _store=store)


def _archive(after: Aftermath, folder: Path) -> Path:
    """A backup of that number in the manual's layout, by Python's tar."""
    told = {"backup_name": _NAME, "sequence": _NUMBER, "database": {"success": True, "file": "database.sql"}}
    content = {
        b"database.sql": DUMP,
        **wanted(after.blocks[_NUMBER]),
        b"backup_metadata.json": json.dumps(told).encode(),
    }
    path = folder / f"{_NAME}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(f"{_NAME}/{name.decode()}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


BACKUP = Work("backup", Aftermath(), _back_up)
PRUNE = Work("delete and prune", Aftermath(), _delete_and_prune, frozenset({Aftermath().manifests[1]}))
ROTATION = Work("rotation", Aftermath(unlock=by_ring, again=_rotate), _rotate)
IMPORT = Work("import", Aftermath(unlock=by_ring, again=_import), _import)
WORKS = (BACKUP, PRUNE, ROTATION, IMPORT)

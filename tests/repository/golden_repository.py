"""Writes golden_repository.tar: a whole repository of format 1, which every later version must read (test_golden_…).

It was made once, by `python -m tests.repository.golden_repository`, by the version that had the format first, and must
never be made again; a later version of the format gets a file of its own beside it. Behind it are: four backups of
files that changed a little, a rotation of the keys after the second, the deletion of the first, a run that died before
its manifest, and a prune. It is opened by the passphrase below, as the key ring in it has it.
"""

from __future__ import annotations

import io
import random
import tarfile
from datetime import timedelta
from pathlib import Path

from resurgam.clock import SystemClock
from resurgam.keys.open_ring import create_ring, unlock_by_passphrase
from resurgam.operations.collection import Limits, collect
from resurgam.operations.progress import Silent
from resurgam.repository.repository import Repository, write_config
from resurgam.repository.ring_store import RingStore
from resurgam.settings.secret import Secret
from resurgam.stores.object_memory import MemoryStore
from tests.repository.scenes import START, Files, stored, take

TAR = Path(__file__).with_name("golden_repository.tar")
PASSPHRASE = Secret("old repositories must be readable for ever")
PACK = 24 << 10


def files(day: int) -> Files:
    """Of that day: texts that stay, one that changes, one that is new, and a large one."""
    content = {b"files/%d/report %d.txt" % (n % 3, n): b"report %d\n" % n * (20 + 7 * n) for n in range(12)}
    content[b"files/today.txt"] = b"day %d\n" % day * 50
    content[b"files/new on day %d.txt" % day] = b"new"
    content["files/Größe \u00e4\u0308.bin".encode()] = random.Random(7).randbytes(30_000)
    return Files(content)


def dump(day: int) -> bytes:
    made = random.Random(5)
    rows = [b"%d\t%s\n" % (row, made.randbytes(12).hex().encode()) for row in range(1500)]
    for row in range(day):
        rows[row * 300] = b"%d\tchanged on day %d\n" % (row * 300, day)
    return b"COPY public.reports (id, body) FROM stdin;\n" + b"".join(rows) + b"\\.\n"


def opened(store: MemoryStore) -> Repository:
    return Repository.open(
        store, lambda repository: unlock_by_passphrase(RingStore(store, repository).look().rings[0], PASSPHRASE).secrets
    )


def write() -> None:
    store = MemoryStore()
    config = write_config(store, START)
    ring = create_ring(config.id, START, PASSPHRASE)
    RingStore(store, config.id).create(ring.ring)
    made: list[bytes] = []
    for day in range(4):
        repository = opened(store)
        last = stored(repository, made[-1]) if made else None
        made.append(take(repository, day, files(day), dump(day), last=last, pack_size=PACK))
        if day == 1:
            RingStore(store, config.id).replace(ring.rotate(START + timedelta(days=1))[0].ring)
    kept = dict(store.objects)
    take(opened(store), 9, files(9), dump(3)[::-1], pack_size=PACK)
    dead = {key: data for key, data in store.objects.items() if key.startswith("packs/")}
    store.objects = {**dead, **kept}
    repository = opened(store)
    repository.delete([made[0]])
    result = collect(repository, Limits(accept=True), clock=SystemClock(), progress=Silent(), pack_size=PACK)
    assert result.deleted_packs and result.plan.rewrite
    with tarfile.open(TAR, "x") as tar:
        for key, (data, _) in sorted(store.objects.items()):
            entry = tarfile.TarInfo(key)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    write()

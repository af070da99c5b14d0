"""Repositories in memory or in a folder, with backups of made-up entries, for the tests of this folder."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from resurgam.archive.entry import Entry, Identity, Kind, Offer
from resurgam.keys.secrets import Secrets, full_secrets
from resurgam.repository.repository import Repository, StoredBackup, write_config
from resurgam.repository.run import About, backing_up
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import ObjectStore

START = datetime(2026, 1, 1, 2, tzinfo=UTC)
ROOT = bytes(range(32))
PRIVATE = bytes(range(1, 33))


def secrets_of(repository: bytes) -> Secrets:
    return full_secrets(ROOT, repository, {1: PRIVATE})


def new_repository(store: ObjectStore | None = None) -> Repository:
    """An empty one, opened with the full key."""
    store = MemoryStore() if store is None else store
    store.prepare()
    write_config(store, START)
    return Repository.open(store, secrets_of)


def reopened(repository: Repository, keys: Callable[[bytes], Secrets] = secrets_of) -> Repository:
    """The same store, as another process sees it."""
    return Repository.open(repository.store, keys)


@dataclass
class Files:
    """A tree of made-up files that can be offered, and counts what was read."""

    content: dict[bytes, bytes]
    times: dict[bytes, int] = field(default_factory=dict)
    read: list[bytes] = field(default_factory=list)

    def offers(self) -> Iterable[Offer]:
        for number, path in enumerate(sorted(self.content)):
            when = self.times.get(path, 1_700_000_000_000_000_000)
            entry = Entry(path, Kind.FILE, 0o644, mtime_ns=when, size=len(self.content[path]))
            yield Offer(entry, Identity(when, number), self._reader(entry), lambda: False)

    def _reader(self, entry: Entry) -> Callable[[], tuple[Entry, Iterable[bytes]] | None]:
        def read() -> tuple[Entry, Iterable[bytes]] | None:
            self.read.append(entry.path)
            data = self.content.get(entry.path)
            return None if data is None else (entry._replace(size=len(data)), [data])

        return read


def sample_files(seed: int = 1, count: int = 300, size: int = 3000) -> Files:
    """Small files with text that compresses, and one large one that does not."""
    made = random.Random(seed)
    content = {
        b"files/u/%03d/report %d.txt" % (i % 7, i): made.randbytes(size // 30).hex().encode() * made.randrange(1, 16)
        for i in range(count)
    }
    content[b"files/u/scan.bin"] = made.randbytes(3 << 20)
    return Files(content)


def sample_dump(seed: int = 1, size: int = 1 << 20) -> bytes:
    made = random.Random(seed)
    return b"".join(b"%d\t%s\n" % (i, made.randbytes(20).hex().encode()) for i in range(size // 48))


def take(
    repository: Repository,
    number: int = 0,
    files: Files | None = None,
    dump: bytes = b"-- a dump\n",
    *,
    last: StoredBackup | None = None,
    pack_size: int = 1 << 20,
    now: datetime | None = None,
    read_all: bool = False,
) -> bytes:
    """A backup of dump and files, committed; answers the manifest's id. `number` gives its name and its moment."""
    taken_at = now or START + timedelta(days=number)
    name = f"app_backup_{START + timedelta(days=number):%Y%m%d_%H%M%S}"
    now_ns = int(taken_at.timestamp()) * 1_000_000_000
    metadata = b'{"backup_name": "%s"}' % name.encode()
    options = {"mtime_ns": now_ns, "now_ns": now_ns, "last": last, "pack_size": pack_size, "read_all": read_all}
    with backing_up(repository, name, "app", **options) as run:  # type: ignore[arg-type]
        run.writer.add(Entry(b"config", Kind.FOLDER, 0o755, mtime_ns=now_ns))
        run.writer.add(Entry(b"config/app.py", Kind.FILE, 0o600, mtime_ns=5, size=7), [b"x = 1\n\n"])
        run.writer.add_late(Entry(b"database.sql", Kind.FILE, 0o600, mtime_ns=now_ns), _blocks(dump))
        run.writer.add(Entry(b"files", Kind.FOLDER, 0o755, mtime_ns=now_ns))
        for offer in (files or Files({})).offers():
            run.writer.offer(offer)
        run.writer.settle()
        run.writer.finish(metadata, now_ns)
        return run.commit(About(name, "app", taken_at, number + 1, 1, "host", "0"), metadata)


def _blocks(data: bytes) -> Iterable[bytes]:
    return (data[at : at + 100_000] for at in range(0, len(data), 100_000))


def stored(repository: Repository, manifest: bytes) -> StoredBackup:
    return next(one for one in repository.backups()[0] if one.id == manifest)


def contents(repository: Repository, manifest: bytes) -> dict[bytes, bytes]:
    """Every file of a backup, by walking through all of it."""
    with repository.open_backup(stored(repository, manifest)) as backup:
        return {entry.path: b"".join(blocks) for entry, blocks in backup.walk() if entry.kind is Kind.FILE}

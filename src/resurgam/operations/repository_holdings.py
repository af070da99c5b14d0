"""Backups in a repository, as operations need them (`Holdings`); docs/ordering.md, sentences 41 to 61.

A name comes from a manifest, which a write-only host may have written: what is no backup's name is not shown, and of
two backups with one name only the first is, so that no other can be put in its place.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path

from blake3 import blake3

from resurgam import __version__
from resurgam.archive.opening import Archive
from resurgam.catalog.catalog import Description
from resurgam.clock import Clock
from resurgam.counting import count_text
from resurgam.errors import KeyRefused, NotFoundError, ResurgamError, StorageError
from resurgam.operations.collection import CollectionResult, Limits, collect, foresee
from resurgam.operations.holdings import Draft, Held, NewBackup, delete_each, described
from resurgam.operations.progress import Progress
from resurgam.operations.repository_opening import Opened, RepositoryAccess
from resurgam.operations.sought import Sought
from resurgam.operations.verify_repository import RepositoryVerdict, note_damage, refuse_unsound, verify_repository
from resurgam.policy.kit import require_recoverable
from resurgam.repository.index_usage import usage
from resurgam.repository.layout import DAMAGE, INDEXES
from resurgam.repository.memory import Memory
from resurgam.repository.reader import RepositoryBackup
from resurgam.repository.records import chunk_ids
from resurgam.repository.repository import Repository, StoredBackup, Unreadable
from resurgam.repository.run import About, backing_up, reserving
from resurgam.repository.sealing import FULL, WRITE_ONLY
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import FoundArchive, is_backup_name

_WRITES_ONLY = "This machine holds a write-only key: which backups there are, only a machine with another key can tell."
_MOST_TROUBLES = 100
_HURT = (
    "A verification found hurt what this backup needs, so it can't be restored whole. The next backup stores again "
    "what its source still has; `resurgam verify --all` says which backups are whole."
)


class RepositoryHoldings:
    """One repository's backups. `folder`: where drills' evidence and files without names go."""

    location = "repository"

    def __init__(
        self, folder: BackupFolder, access: RepositoryAccess, clock: Clock, *, prune_limit: int, read_all: bool
    ) -> None:
        self._folder, self._access, self._clock = folder, access, clock
        self._prune_limit, self._read_all = prune_limit, read_all
        self._lock = threading.RLock()
        self._backups: dict[str, StoredBackup] | None = None
        self._written: dict[str, bytes] = {}
        self._damage = b""
        self._sought: Sought | None = None
        self.troubles: tuple[str, ...] = ()

    def found(self) -> list[FoundArchive]:
        with self._lock:
            opened = self._access.open()
            if not opened.repository.keys.can_read:
                self._backups, self.troubles = {}, (_WRITES_ONLY, *opened.warnings)
                return []
            backups, unreadable = opened.repository.backups()
            if any(one.locked for one in unreadable):  # the keys were rotated since
                opened = self._access.current()
                backups, unreadable = opened.repository.backups()
            self._list(opened, backups, unreadable)
            self._look_for_damage(opened.repository)
            return [_found(one, self._damage) for _, one in sorted(self._known().items())]

    def require_readable(self) -> None:
        if self._access.unlocking.writes_only:
            raise KeyRefused(
                "This machine holds a write-only key: it adds backups and can read none, so it can't show, verify, "
                "restore, drill, export or delete any. Nothing was touched.",
                "Do it on a machine that has the passphrase, or where BACKUP_RECOVERY_KIT_FILE is the recovery kit.",
            )

    def ever(self) -> int:
        standing = self._access.open().repository.standing()
        return len(standing.committed) + len(standing.removed.manifests)

    def changed_at(self) -> int:
        return 0

    def has(self, name: str) -> bool:
        return name in self._known() or name in self._written

    def reserving(self, name: str) -> AbstractContextManager[bool]:
        return reserving(self._access.current().repository, name)

    def series_of(self, name: str) -> str:
        backup = self._known().get(name)
        return "write-only hosts" if backup is not None and backup.author == WRITE_ONLY else ""

    def describe(self, name: str) -> Description:
        told, sought = described(lambda: self.open(name)), self._sought
        if sought is None or told.condition == "damaged" or sought.whole(self._one(name)):
            return told
        return Description("damaged", _HURT, told.metadata)

    def open(self, name: str) -> Archive:
        return self.backup(name)

    def backup(self, name: str) -> RepositoryBackup:
        """The backup. NotFoundError if there is none of that name."""
        return self._access.open().repository.open_backup(self._one(name))

    def lacking(self, name: str) -> int:
        repository, backup = self._access.open().repository, self._one(name)
        repository.index.reload()
        ids = chain((chunk for chunk, _ in backup.manifest.list_chunks()), chunk_ids(self.backup(name).list_blocks()))
        return len(usage(repository.index, ids).missing)

    def verify_all(self, progress: Progress, now: datetime, *, full: bool) -> RepositoryVerdict:
        opened = self._access.open()
        verdict = verify_repository(
            opened.repository, full=full, today=now, progress=progress, extra=lambda: opened.warnings
        )
        refuse_unsound(verdict)
        return verdict

    def note_damage(self, name: str) -> None:
        note_damage(self._access.open().repository, self._one(name))

    def place_of(self, name: str) -> str:
        backup = self._known().get(name)
        manifest = self._written.get(name) if backup is None else backup.id
        repository = self._access.open().repository
        return repository.store.url if manifest is None else repository.manifest_path(manifest)

    def file_of(self, name: str) -> Path | None:
        return None

    def stream(self, name: str) -> Iterator[bytes]:
        return self.backup(name).export()

    @contextmanager
    def writing(self, new: NewBackup) -> Iterator[Draft]:
        opened = self._access.current()
        require_recoverable(opened.ring)
        app = new.name.rpartition("_backup_")[0]
        with backing_up(
            opened.repository,
            new.name,
            app,
            mtime_ns=new.mtime_ns,
            now_ns=int(self._clock.now().timestamp() * 1e9),
            last=self._last_of(app),
            read_all=self._read_all,
            scratch=self._folder.path,
        ) as run:

            def commit(metadata: bytes) -> Held:
                size = run.writer.finish(metadata, new.mtime_ns)
                about = About(
                    new.name,
                    app,
                    new.taken_at,
                    new.sequence,
                    opened.ring.generation,
                    socket.gethostname(),
                    __version__,
                )
                manifest = self._written[new.name] = run.commit(about, metadata)
                memory = Memory(opened.repository.keys, opened.repository.cache)
                memory.write(memory.read() | {manifest})
                stored_at = 0.0  # of another day than any clock's, so that no age is believed
                with suppress(StorageError):
                    stored_at = opened.repository.store.time()
                return Held(size, stored_at, run.added)

            yield Draft(run.writer, commit)

    def delete(self, name: str) -> int:
        with self._lock:
            opened, backup = self._full(), self._one(name)
            opened.repository.delete([backup.id])
        self._forget(name)
        return backup.manifest.head.stored

    def delete_all(self, names: Sequence[str]) -> dict[str, str]:
        try:
            with self._lock:
                self._full().repository.delete([self._one(name).id for name in names])
        except NotFoundError:  # somebody was quicker with one of them
            return delete_each(self.delete, names)
        except ResurgamError as error:
            return dict.fromkeys(names, error.message)
        for name in names:
            self._forget(name)
        return {}

    def _forget(self, name: str) -> None:
        with self._lock:
            self._known().pop(name, None)
            self._written.pop(name, None)
        self._folder.evidence_path(name).unlink(missing_ok=True)

    def foresee(self, doomed: Iterable[str], progress: Progress, *, accept: bool, refuse: bool) -> CollectionResult:
        ids = frozenset(self._one(name).id for name in doomed)
        repository = self._full().repository
        limits = self._limits(repository, accept)
        return foresee(repository, limits, ids, clock=self._clock, progress=progress, refuse=refuse)

    def collect(self, progress: Progress, *, accept: bool, checked: bool) -> CollectionResult:
        repository = self._full().repository
        limits = self._limits(repository, accept)
        done = collect(repository, limits, clock=self._clock, progress=progress, checked=checked)
        Memory(repository.keys, repository.cache).write(repository.standing().committed)
        return done

    def time(self) -> float:
        return self._access.store.time()

    def _limits(self, repository: Repository, accept: bool) -> Limits:
        return Limits(self._prune_limit, accept, Memory(repository.keys, repository.cache).read())

    def _list(self, opened: Opened, backups: list[StoredBackup], unreadable: list[Unreadable]) -> None:
        known: dict[str, StoredBackup] = {}
        troubles = list(opened.warnings)
        # A write-only host, which could take any name before others do, comes after all others (FULL is 1).
        for one in sorted(backups, key=lambda backup: (backup.author, backup.stored_at, backup.id)):
            name = one.manifest.head.name
            if not is_backup_name(name):
                troubles.append(f"The manifest {one.id.hex()} gives a name that no backup has; it is not shown.")
            elif name in known:
                troubles.append(f"The manifest {one.id.hex()} gives the name of {name} again; it is not shown.")
            else:
                known[name] = one
        troubles += [f"The manifest {one.id.hex()} can't be read: {one.problem}" for one in unreadable]
        if len(troubles) > _MOST_TROUBLES:
            troubles[_MOST_TROUBLES:] = [f"And {count_text(len(troubles) - _MOST_TROUBLES, 'more such trouble')}."]
        self._backups, self.troubles = known, tuple(troubles)

    def _look_for_damage(self, repository: Repository) -> None:
        """What verifications have noted (docs/ordering.md, 64). `_damage` is another value whenever another backup may
        be hurt by it, or whole again; b"" while nothing is damaged, and then nothing else is looked at."""
        damage = [one.key for one in repository.store.list(DAMAGE)]
        if not damage:
            self._damage, self._sought = b"", None
            return
        indexes = [one.key for one in repository.store.list(INDEXES)]
        now = blake3("\n".join(sorted(damage + indexes)).encode()).digest(8)
        if now != self._damage:
            self._damage, self._sought = now, Sought(repository, repository.index_now().view().damaged)

    def _known(self) -> dict[str, StoredBackup]:
        with self._lock:
            if self._backups is None:
                self.found()
            assert self._backups is not None
            return self._backups

    def _one(self, name: str) -> StoredBackup:
        backup = self._known().get(name)
        if backup is None:
            raise NotFoundError(f"There is no backup {name} in {self._access.store.url}.")
        return backup

    def _full(self) -> Opened:
        """KeyRefused on a write-only host, whose records nobody would believe."""
        opened = self._access.open()
        if not opened.repository.keys.can_read:
            raise KeyRefused(
                "This machine holds a write-only key, with which nothing can be deleted; nothing was touched.",
                "Do it on a machine that has the passphrase, or with the recovery kit.",
            )
        return opened

    def _last_of(self, app: str) -> StoredBackup | None:
        own = [one for one in self._known().values() if one.manifest.head.app == app and one.author == FULL]
        return max(own, key=lambda one: (one.manifest.head.sequence, one.manifest.head.taken_at), default=None)


def _found(backup: StoredBackup, damage: bytes) -> FoundArchive:
    """`damage` makes it look like another file, so that it is described again."""
    identity = (int.from_bytes(backup.id[:8], "big") ^ int.from_bytes(damage, "big")) & 0x7FFF_FFFF_FFFF_FFFF
    head = backup.manifest.head
    return FoundArchive(head.name, head.stored, int(backup.stored_at * 1e9), identity)

"""The repository that the settings name: opened with the key they give, made by `resurgam init`.

It is opened when it is first needed, and once; a service that lives long opens it anew when its keys were rotated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

from resurgam.clock import Clock
from resurgam.errors import RepositoryError, ResurgamError, StorageError
from resurgam.keys.open_ring import create_ring
from resurgam.keys.ring import KeyRing
from resurgam.keys.secrets import Secrets
from resurgam.keys.unlock import Unlocked, Unlocking, passphrase_of, unlock
from resurgam.operations.repository_keys import KeyAccess, ring_json
from resurgam.repository.memory import remembers
from resurgam.repository.repository import Config, Repository, read_config, write_config
from resurgam.repository.ring_store import RingStore
from resurgam.stores.object_opening import open_store
from resurgam.stores.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Opened:
    """An open repository, and the key ring that opened it; `warnings` are the ring's."""

    repository: Repository
    ring: KeyRing
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """A repository that is there: whether it was made now, and its key ring."""

    url: str
    new: bool
    ring: KeyRing

    @property
    def id(self) -> str:
        return self.ring.repository.hex()

    def to_json(self) -> dict[str, Any]:
        return {"url": self.url, "created": self.new, **ring_json(self.ring)}


@dataclass(slots=True)
class RepositoryAccess:
    """The way to one repository. `cache` is a folder for what can be had again; `app` stands on recovery kits;
    `waiting` gets a sentence where the store has not answered yet, in a thread of its own."""

    place: str
    unlocking: Unlocking
    environment: Mapping[str, str] = field(repr=False)
    cache: Path
    app: str
    clock: Clock
    waiting: Callable[[str], None] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _store: ObjectStore | None = None
    _opened: Opened | None = None

    @property
    def store(self) -> ObjectStore:
        """Where it lies. SettingsError, FeatureMissing for a place that we can't use."""
        with self._lock:
            if self._store is None:
                self._store = open_store(self.place, self.environment, self.waiting)
            return self._store

    def open(self, *, anew: bool = False) -> Opened:
        """RepositoryError if there is none, KeyRefused if the key is not its."""
        with self._lock:
            if self._opened is None or anew:
                self._opened = self._open()
            return self._opened

    def current(self) -> Opened:
        """The same with the key ring as it is now, which may have changed since it was opened."""
        with self._lock:
            opened = self.open()
            newest = RingStore(self.store, opened.ring.repository).look()
            return opened if newest.rings == (opened.ring,) else self.open(anew=True)

    def open_ahead(self) -> None:
        """Begin to open it beside whatever the caller does next: a passphrase takes its time, and needs no GIL.

        What goes wrong is told by `open`, which tries again.
        """
        threading.Thread(target=self._try_to_open, name="resurgam-opening", daemon=True).start()

    def make(self, recipients: tuple[tuple[str, str], ...] = ()) -> Made:
        """Make it, with the passphrase of the settings and (name, age recipient); harmless where it is made already.

        One whose making died is finished. RepositoryError where something else lies, or where this machine has seen
        backups that are not there now, as below a mount point whose disk is away; UsageError, KeyRefused without
        anything that could open it, and nothing is made then.
        """
        now, store = self.clock.now(), self.store
        store.prepare()
        config = read_config(store)
        if config is not None and next(iter(store.list("keys/")), None) is not None:
            return Made(store.url, False, self.open(anew=True).ring)
        if config is None and remembers(self._cache_path()):
            raise RepositoryError(
                f"This machine has seen backups in {store.url}, and no repository is there; none was made.",
                f"Is its disk mounted? If it is gone for good, remove {self._cache_path()}, then run it again.",
            )
        passphrase = passphrase_of(self.unlocking)
        # Before anything is put, so that what no key would open is not made.
        create_ring(bytes(16), now, passphrase, recipients)
        if config is None:
            config = write_config(store, now)
        elif any(not one.key.startswith("config") for one in store.list()):
            raise RepositoryError(
                f"The repository {store.url} has lost its key ring; nothing was touched.",
                "Bring back the folder keys/ from a copy of the repository.",
            )
        ring = create_ring(config.id, now, passphrase, recipients).ring
        RingStore(store, config.id).create(ring)
        return Made(store.url, True, ring)

    def keys(self) -> KeyAccess:
        """What the operations on keys work with. RepositoryError if there is no repository."""
        rings = RingStore(self.store, self._config().id)
        return KeyAccess(rings, self.unlocking, self.clock, self.app, self.store.url, self._try_out)

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._store = self._opened = None

    def _try_to_open(self) -> None:
        with suppress(ResurgamError):
            self.open()

    def _open(self) -> Opened:
        store = self.store
        found: list[Unlocked] = []

        def secrets(repository: bytes) -> Secrets:
            found.append(unlock(RingStore(store, repository), self.unlocking))
            return found[0].secrets

        repository = Repository.open(store, secrets, self._cache_folder())
        ring = found[0].ring
        return Opened(repository, ring, RingStore(store, ring.repository).look().warnings)

    def _config(self) -> Config:
        config = read_config(self.store)
        if config is None:
            raise RepositoryError(
                f"There is no repository in {self.store.url}; nothing was touched.", "`resurgam init` makes one."
            )
        return config

    def _cache_path(self) -> Path:
        """A place's own."""
        return self.cache / blake3(self.place.encode()).hexdigest()[:16]

    def _cache_folder(self) -> Path | None:
        """The same, made; None where nothing can be written."""
        folder = self._cache_path()
        with suppress(OSError):  # where BACKUP_DIR is not there, it is not made here
            self.cache.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            return folder
        return None

    def _try_out(self, secrets: Secrets) -> None:
        """Read of the repository what these keys must be able to read: every manifest, and a backup's list."""
        repository = Repository(self.store, secrets)
        backups, unreadable = repository.backups()
        if unreadable and not backups:
            raise StorageError(f"The repository opens, and no backup in it does: {unreadable[0].problem}")
        newest = max(backups, key=lambda one: one.stored_at, default=None)
        if newest is not None:
            repository.open_backup(newest).metadata()
            for _ in repository.open_backup(newest).list_blocks():
                pass

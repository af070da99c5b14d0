"""A repository, open: its backups, and what it takes to read and write them.

Opening believes nothing that is not authenticated, and touches nothing (docs/repository-format.md, sentences 2 and 7).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from resurgam.errors import (
    ArchiveError,
    DamagedError,
    HostileError,
    KeyRefused,
    NotFoundError,
    ObjectMissing,
    RepositoryError,
)
from resurgam.keys.secrets import ID, Secrets
from resurgam.repository.index_set import IndexSet
from resurgam.repository.layout import (
    CONFIG,
    MANIFESTS,
    OUTCOMES,
    id_of,
    manifest_key,
    new_id,
    record_key,
)
from resurgam.repository.manifests import ABANDONED, COMMITTED, Manifest
from resurgam.repository.reader import RepositoryBackup
from resurgam.repository.reading import ChunkReader
from resurgam.repository.removals import Removals, encode_removal, finish_removal, read_removals
from resurgam.repository.sealing import HEADER, WRITE_ONLY, Header, Kind, Opener, Sealer
from resurgam.repository.texts import read_object, read_text
from resurgam.stores.objects import ObjectStore, StoredObject

FORMAT, VERSION = "resurgam-repository", 1
_MAX_CONFIG = 64 << 10


@dataclass(frozen=True, slots=True)
class Config:
    """What a repository says of itself in plain."""

    id: bytes
    created: datetime


@dataclass(frozen=True, slots=True)
class StoredBackup:
    """A committed backup: its manifest's id, how the store shows that, and who wrote it (sealing.FULL, WRITE_ONLY)."""

    id: bytes
    manifest: Manifest
    stored_at: float
    author: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A manifest that does not open, or an outcome that can't be believed; `problem` is a sentence. `locked`: the key
    ring that was opened has no key for it."""

    id: bytes
    problem: str
    locked: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """The manifests as one listing shows them, by their outcomes.

    `abandoned` ones are listed still; `orphaned` are said to be committed, and not there although nobody deleted them;
    `leftover` were deleted, and something of them is still there. `unfit` are outcomes that can't be believed: their
    manifests count as undecided, so that nothing is lost by them.
    """

    committed: Mapping[bytes, StoredObject]
    undecided: Mapping[bytes, StoredObject]
    abandoned: frozenset[bytes]
    orphaned: frozenset[bytes]
    leftover: frozenset[bytes]
    removed: Removals
    unfit: tuple[Unreadable, ...] = ()


def read_config(store: ObjectStore) -> Config | None:
    """The repository that the store holds, or None. RepositoryError if it is none of ours, or of a later version."""
    try:
        raw = store.get(CONFIG, 0, _MAX_CONFIG)
    except ObjectMissing:
        return None
    try:
        fields = json.loads(raw)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError("another format")
        version = fields["version"]
        config = Config(bytes.fromhex(fields["id"]), datetime.fromisoformat(fields["created"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RepositoryError(
            f"{store.url} holds a file `config`, but no repository of Resurgam; nothing was touched.",
            "Check BACKUP_REPOSITORY; a repository needs a place of its own.",
        ) from None
    if version != VERSION:
        raise RepositoryError(
            f"The repository {store.url} has format {version}; this version of Resurgam knows format {VERSION}.",
            "Install a newer version of Resurgam.",
        )
    if len(config.id) != ID:
        raise RepositoryError(f"The repository {store.url} has a malformed id; nothing was touched.")
    return config


def write_config(store: ObjectStore, created: datetime) -> Config:
    """Make a repository of an empty place. RepositoryError if anything of ours is there already."""
    if read_config(store) is not None or next(iter(store.list()), None) is not None:
        raise RepositoryError(
            f"{store.url} is not empty; no repository was made there.",
            "Name an empty folder or prefix. If it holds a repository already, nothing is to be done.",
        )
    config = Config(new_id(), created)
    fields = {"format": FORMAT, "version": VERSION, "id": config.id.hex(), "created": created.isoformat()}
    store.put(CONFIG, json.dumps(fields, indent=1).encode() + b"\n")
    return config


class Repository:
    """One repository, opened with its keys. `cache`: a folder for what can be had again, or None."""

    def __init__(self, store: ObjectStore, keys: Secrets, cache: Path | None = None) -> None:
        self.store, self.keys, self.cache = store, keys, cache
        self.opener = Opener(keys)
        self._manifests: dict[bytes, Manifest] = {}
        self._outcomes: dict[bytes, tuple[str, int]] = {}
        self._authors: dict[bytes, int] = {}
        self._removals: dict[bytes, Removals] = {}
        self._index: IndexSet | None = None
        self._reader: ChunkReader | None = None

    @classmethod
    def open(cls, store: ObjectStore, unlock: Callable[[bytes], Secrets], cache: Path | None = None) -> Repository:
        """Open the repository in a store; `unlock` gets its id. RepositoryError if there is none."""
        config = read_config(store)
        if config is None:
            raise RepositoryError(
                f"There is no repository in {store.url}; nothing was touched.",
                "`resurgam init` makes one. If there should be one, check the path, the mount, the bucket.",
            )
        keys = unlock(config.id)
        if keys.repository != config.id:
            raise RepositoryError(f"The key is of another repository than {store.url}; nothing was touched.")
        return cls(store, keys, cache)

    @property
    def index(self) -> IndexSet:
        """Where chunks lie, by the listing of its first use or of its last reload."""
        # No cached_property: Python 3.11 locks it for all objects, which would wait for each other's stores.
        if self._index is None:
            self._index = IndexSet.load(self.store, self.opener, self.cache)
        return self._index

    def index_now(self) -> IndexSet:
        """Where chunks lie, by a listing that begins now."""
        if self._index is not None:
            self._index.reload()
        return self.index

    @property
    def reader(self) -> ChunkReader:
        if self._reader is None:
            self._reader = ChunkReader(self.store, self.opener, self.index)
        return self._reader

    def manifest_path(self, manifest: bytes) -> str:
        """What users see as a backup's address."""
        return f"{self.store.url}/{manifest_key(manifest)}"

    def standing(self) -> Standing:
        """Which manifests there are, by fresh listings. Outcomes first: what is committed then has its manifest.

        What counts as deleted are the records that were there before: one that comes later may name a manifest in whose
        place another one was put (ordering.md, 66) that these listings do not show. Records are listed again
        at the end, to tell what was deleted meanwhile from what is lost.
        """
        before = read_removals(self.store, self.opener, self._removals)
        outcomes = {found: one for one in self.store.list(OUTCOMES) if (found := id_of(one.key)) is not None}
        manifests = {found: one for one in self.store.list(MANIFESTS) if (found := id_of(one.key)) is not None}
        removed = read_removals(self.store, self.opener, self._removals)
        committed, undecided, abandoned, orphaned, unfit = {}, {}, set(), set(), []
        for manifest in {*outcomes, *manifests} - before.manifests:
            stored = manifests.get(manifest)
            try:
                outcome = self._believed(manifest, listed=stored is not None) if manifest in outcomes else None
            except (ArchiveError, RepositoryError) as error:
                unfit.append(Unreadable(manifest, error.message))
                outcome = None
            if stored is None:
                orphaned |= {manifest} - removed.manifests if outcome == COMMITTED else set()
            elif outcome == COMMITTED:
                committed[manifest] = stored
            elif outcome == ABANDONED:
                abandoned.add(manifest)
            else:
                undecided[manifest] = stored
        leftover = frozenset({*outcomes, *manifests} & before.manifests)
        gone, lost = frozenset(abandoned), frozenset(orphaned)
        return Standing(committed, undecided, gone, lost, leftover, removed, tuple(unfit))

    def outcome(self, manifest: bytes) -> str | None:
        """How a manifest that is there ended; None if that is open. DamagedError, RepositoryError if its outcome is
        neither of the two, HostileError if whoever wrote it may not decide that."""
        return self._believed(manifest, listed=True)

    def _believed(self, manifest: bytes, *, listed: bool) -> str | None:
        """The same, if whoever wrote the outcome may decide about that manifest: a write-only host about those of
        write-only hosts that are there (sentence 22). HostileError if not."""
        try:
            outcome, author = self._outcome(manifest)
        except ObjectMissing:
            return None
        if author != WRITE_ONLY or not self.keys.can_read:
            return outcome
        if not listed:
            return None
        try:
            if self.author(manifest) == WRITE_ONLY:
                return outcome
        except ObjectMissing:
            return None
        except (ArchiveError, RepositoryError):
            return outcome if outcome == COMMITTED else None  # a damaged manifest is told of, and never given up
        raise HostileError(
            f"The outcome of the manifest {manifest.hex()} was written by a machine that may not decide it."
        )

    def _outcome(self, manifest: bytes) -> tuple[str, int]:
        known = self._outcomes.get(manifest)
        if known is not None:
            return known
        header, text = read_text(self.store, self.opener, Kind.OUTCOME, manifest)
        try:
            outcome = json.loads(text)["outcome"]
        except (ValueError, TypeError, KeyError, RecursionError):
            outcome = None
        if outcome not in (COMMITTED, ABANDONED):
            raise DamagedError(f"The outcome of the manifest {manifest.hex()} is malformed.")
        self._outcomes[manifest] = known = (str(outcome), header.author)
        return known

    def author(self, manifest: bytes) -> int:
        """Who wrote a manifest. DamagedError, RepositoryError, ObjectMissing."""
        known = self._authors.get(manifest)
        if known is None:
            head = self.store.get(manifest_key(manifest), 0, HEADER)
            known = self._authors[manifest] = self.opener.header(Kind.MANIFEST, manifest, head).author
        return known

    def manifest(self, manifest: bytes) -> Manifest:
        """A manifest, opened. ObjectMissing; DamagedError, RepositoryError if it is not as it was written; KeyRefused;
        HostileError if it is, and a write-only host wrote something that nobody can ever use."""
        known = self._manifests.get(manifest)
        if known is None:
            data = read_object(self.store, Kind.MANIFEST, manifest)
            header = self.opener.text_header(Kind.MANIFEST, manifest, data)
            self._authors[manifest] = header.author
            known = self._manifests[manifest] = self._decoded(header, data)
        return known

    def _decoded(self, header: Header, data: bytes) -> Manifest:
        try:
            return Manifest.decode(b"".join(self.opener.open_pieces(header, data)))
        except DamagedError as error:
            if header.author != WRITE_ONLY:
                raise
            raise HostileError(
                f"The manifest {header.object_id.hex()} of a write-only host is none: {error.message}"
            ) from None

    def backups(self) -> tuple[list[StoredBackup], list[Unreadable]]:
        """The committed backups, in no order; and what somebody must be told of because it does not open, or can't be
        believed."""
        standing = self.standing()
        found, unreadable = [], list(standing.unfit)
        for manifest, stored in standing.committed.items():
            try:
                opened = self.manifest(manifest)
                found.append(StoredBackup(manifest, opened, stored.stored_at, self.author(manifest)))
            except ObjectMissing:
                continue  # deleted since it was listed
            except (ArchiveError, RepositoryError, KeyRefused) as error:
                unreadable.append(Unreadable(manifest, error.message, isinstance(error, KeyRefused)))
        return found, unreadable

    def open_backup(self, backup: StoredBackup) -> RepositoryBackup:
        """A backup, to be read like an archive."""
        return RepositoryBackup(backup.manifest, self.manifest_path(backup.id), lambda: self.reader)

    def delete(self, manifests: list[bytes], reason: str = "delete") -> None:
        """Delete backups (docs/ordering.md, 51). NotFoundError if one is not there; nothing is deleted then."""
        standing = self.standing()
        if missing := [one for one in manifests if one not in standing.committed]:
            raise NotFoundError(f"There is no backup with the manifest {missing[0].hex()} in {self.store.url}.")
        record, removed = new_id(), Removals(frozenset(manifests))
        self.store.put(record_key(record), encode_removal(Sealer(self.keys), record, reason, removed))
        finish_removal(self.store, manifests)
        for one in manifests:
            self._manifests.pop(one, None)
            self._outcomes.pop(one, None)
            self._authors.pop(one, None)

"""One backup into a repository, from the intent to the commit (docs/ordering.md, sentences 41 to 48)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from resurgam.errors import (
    ArchiveError,
    DamagedError,
    ObjectExists,
    ObjectMissing,
    RepositoryError,
    ResurgamError,
    StorageError,
    StoreUnreachable,
)
from resurgam.repository.known import KnownRecords
from resurgam.repository.layout import id_of, intent_key, manifest_key, new_id, outcome_key
from resurgam.repository.manifests import ABANDONED, COMMITTED, Head, Manifest
from resurgam.repository.own_list import OwnList
from resurgam.repository.packing import PACK_SIZE, Packing, Sort
from resurgam.repository.reading import ChunkReader
from resurgam.repository.repository import Repository, StoredBackup
from resurgam.repository.sealing import FULL, WRITE_ONLY, Kind, Sealer
from resurgam.repository.texts import longest, read_text
from resurgam.repository.writer import RepositoryWriter
from resurgam.stores.objects import StoredObject

# How often a run copies chunks out of packs that were tombstoned meanwhile, before it gives up.
_ATTEMPTS = 10
# How many intents are read for the names that they ask for: no honest machines have more.
_ASKED = 256
# How many earlier backups a manifest names. Each is named by as many later ones.
_KNOWN = 256


@dataclass(frozen=True, slots=True)
class About:
    """What a manifest says that the stream does not."""

    name: str
    app: str
    taken_at: datetime
    sequence: int
    ring: int
    host: str
    version: str


class RepositoryRun:
    """A backup on its way: `writer` takes the entries, `commit` makes it a backup."""

    def __init__(self, repository: Repository, sealer: Sealer, packing: Packing, writer: RepositoryWriter) -> None:
        self._repository, self._sealer = repository, sealer
        self._packing = packing
        self._damage = repository.index.view().damaged
        self.writer = writer
        self.committed: bytes | None = None

    @property
    def added(self) -> int:
        """Bytes of packs that this run has put."""
        return self._packing.added

    def commit(self, about: About, metadata: bytes) -> bytes:
        """Put manifest and outcome; answers the manifest's id. The writer has finished.

        StorageError, DamagedError if the backup could not be committed: it does not exist then, or the error says why
        that can't be told.
        """
        manifest_id, known = new_id(), _newest(self._repository.standing().committed)
        manifest = Manifest.of(self._head(about, known), metadata, bytes(self.writer.list_chunks))
        try:
            sealed = self._sealer.seal_text(Kind.MANIFEST, manifest_id, manifest.encode())
            if len(sealed) > longest(Kind.MANIFEST):
                raise StorageError(f"The backup's manifest has {len(sealed):,} bytes, more than any reader takes.")
            self._repository.store.put(manifest_key(manifest_id), sealed)
            self._settle_packs()
            self._decide_committed(manifest_id)
        except BaseException:
            with contextlib.suppress(ResurgamError):  # a sweep does it else (sentence 47)
                self._decide(manifest_id, ABANDONED)
            raise
        self.committed = manifest_id
        return manifest_id

    def _head(self, about: About, known: bytes) -> Head:
        totals = self.writer.totals
        return Head(
            name=about.name,
            app=about.app,
            taken_at=about.taken_at,
            sequence=about.sequence,
            stream=totals.stream,
            entries=totals.entries,
            files=totals.files,
            content=totals.content,
            stored=totals.stored,
            added=self._packing.added,
            list_length=self.writer.list_length,
            metadata_at=totals.metadata_at,
            metadata_length=totals.metadata_length,
            indexes=tuple(self._packing.indexes),
            packs=tuple(self._packing.written),
            known=known,
            ring=about.ring,
            host=about.host,
            version=about.version,
        )

    def _settle_packs(self) -> None:
        """Until all that the backup needs lies in packs that stay: copy what lies in others only (sentence 45)."""
        for _ in range(_ATTEMPTS):
            if not self._doubtful():
                return
            self._copy_out()
        raise StorageError(
            f"Packs were removed from {self._repository.store.url} as fast as this backup copied out of them; it was "
            "not taken. Earlier backups are untouched.",
            "Let the prune of the other machine end, then take the backup again.",
        )

    def _doubtful(self) -> bool:
        """Whether a pack that the backup refers to is gone, will go, or was found damaged since, by listings that begin
        now."""
        index, used = self._repository.index, self._packing.used
        index.reload(used)
        damage = index.view().damaged
        hurt, self._damage = {pack for pack, _ in damage - self._damage}, damage
        return any(pack not in index.packs or index.packs[pack].tombstoned or pack in hurt for pack in used)

    def _copy_out(self) -> None:
        """Refer to packs that stay only, and write anew every chunk that none of them holds."""
        reader = ChunkReader(self._repository.store, self._sealer.opener, self._repository.index)
        self._packing.used.clear()
        for name, length, sort in self._needed():
            if self._packing.reuse([name]) is not None:
                continue
            try:
                (chunk,) = reader.chunks([(name, length)])
            except DamagedError:
                raise StorageError(
                    f"A pack that this backup needs was removed from {self._repository.store.url} while it ran; it was "
                    "not taken. Earlier backups are untouched.",
                    "Take the backup again.",
                ) from None
            self._packing.take(name, length, chunk.member, sort)
        self._packing.flush()

    def _needed(self) -> Iterator[tuple[bytes, int, Sort]]:
        for name, length in self.writer.content_chunks():
            yield name, length, "content"
        for name, length in Manifest.chunks_of(self.writer.list_chunks):
            yield name, length, "list"

    def _decide_committed(self, manifest: bytes) -> None:
        """The commit (sentence 46). After a lost answer it looks again; a disk that failed is not believed."""
        try:
            outcome = self._decide(manifest, COMMITTED)
        except StorageError as error:
            fate = self._fate(manifest)
            if fate == ABANDONED:
                raise
            if fate == COMMITTED and isinstance(error, StoreUnreachable):
                return
            told = "is there, but not known to be durable" if fate == COMMITTED else "is there can't be told now"
            raise StorageError(
                f"{error.message} {'The backup' if fate == COMMITTED else 'Whether the backup'} {told}.",
                "`resurgam list` shows it if it is there. Take another one once the store is well.",
            ) from error
        if outcome != COMMITTED:
            raise StorageError(
                "Another machine gave this backup up for dead before it could be committed; it was not taken.",
                "Take it again. If this machine had slept for a day, that is why; else check the clocks.",
            )

    def _fate(self, manifest: bytes) -> str | None:
        """What became of it, decided now if it was open; None if nobody can be asked."""
        with contextlib.suppress(ResurgamError):
            return self._repository.outcome(manifest) or self._decide(manifest, ABANDONED)
        return None

    def _decide(self, manifest: bytes, outcome: str) -> str | None:
        """Put the outcome; answers which one is there now."""
        text = json.dumps({"outcome": outcome}).encode()
        try:
            key = outcome_key(manifest)
            self._repository.store.put(key, self._sealer.seal_text(Kind.OUTCOME, manifest, text))
        except ObjectExists:
            return self._repository.outcome(manifest)
        return outcome


@contextmanager
def backing_up(
    repository: Repository,
    name: str,
    app: str,
    *,
    mtime_ns: int,
    now_ns: int,
    last: StoredBackup | None,
    read_all: bool = False,
    scratch: Path | None = None,
    pack_size: int = PACK_SIZE,
) -> Iterator[RepositoryRun]:
    """A run that is to be committed within the block. `last`: the backup whose files need not be read again if they are
    the same; `scratch`: a folder for files without names."""
    sealer = Sealer(repository.keys)
    intent, index = new_id(), repository.index_now()
    note = json.dumps({"name": name, "run": sealer.run.hex()}).encode()
    repository.store.put(intent_key(intent), sealer.seal_text(Kind.INTENT, intent, note))
    known = KnownRecords(scratch)
    try:
        own = None if repository.cache is None else OwnList(repository.keys, repository.cache, app)
        if not read_all:
            with contextlib.suppress(ResurgamError, OSError):  # then everything is read
                known.fill(_last_list(repository, own, last))
        packing = Packing(repository.store, sealer, index, pack_size=pack_size)
        writer = RepositoryWriter(packing, name, mtime_ns=mtime_ns, now_ns=now_ns, known=known, scratch=scratch)
        with writer:
            run = RepositoryRun(repository, sealer, packing, writer)
            yield run
            if own is not None and run.committed is not None:
                own.write(run.committed, writer.list_blocks())
    finally:
        known.close()
        with contextlib.suppress(StorageError):  # a hint only, which ends by its age
            repository.store.delete(intent_key(intent))


def _last_list(repository: Repository, own: OwnList | None, last: StoredBackup | None) -> Iterable[bytes]:
    """The list of the last backup, from this machine's cache if that is of it; a write-only host has no other."""
    kept = own.read() if own is not None else None
    if kept is not None:
        manifest, blocks = kept
        if manifest == last.id if last is not None else manifest in repository.standing().committed:
            return blocks
    if last is None or (last.author == WRITE_ONLY and repository.keys.can_read):
        return ()  # a broken host could have put any content under the prints of our files
    return repository.open_backup(last).list_blocks()


def _newest(committed: Mapping[bytes, StoredObject]) -> bytes:
    """What a manifest says of others. Not all of thousands: each would name all before it."""
    return b"".join(sorted(committed, key=lambda one: (-committed[one].stored_at, one))[:_KNOWN])


@contextmanager
def reserving(repository: Repository, name: str) -> Iterator[bool]:
    """Keep a backup's name from all other machines for the block's length; False if one of them may have it.

    Who sees another's intent of the name gives way (sentence 67): of two that put theirs at once, one sees the other.
    """
    intent = new_id()
    note = json.dumps({"name": name, "run": ""}).encode()
    repository.store.put(intent_key(intent), Sealer(repository.keys).seal_text(Kind.INTENT, intent, note))
    try:
        others = [other for other, _ in intents(repository) if other != intent][:_ASKED]
        yield all(_note_of(repository, other).get("name") != name for other in others)
    finally:
        with contextlib.suppress(StorageError):  # a hint only, which ends by its age
            repository.store.delete(intent_key(intent))


def intents(repository: Repository) -> list[tuple[bytes, float]]:
    """The runs that say they are under way, and since when by the store's clock."""
    found = ((id_of(one.key), one.stored_at) for one in repository.store.list("intents/"))
    return [(name, since) for name, since in found if name is not None]


def run_of(repository: Repository, intent: bytes) -> bytes | None:
    """What stands in the headers of that run's packs (`Sealer.run`); None if that can't be told, or only on the word of
    a write-only host, which could name any run."""
    note = _note_of(repository, intent)
    try:
        return bytes.fromhex(note["run"]) if note["author"] == FULL else None
    except (ValueError, TypeError, KeyError):
        return None


def _note_of(repository: Repository, intent: bytes) -> dict[str, Any]:
    """What an intent says, and who by `author`; nothing if it is gone or no such thing."""
    try:
        header, text = read_text(repository.store, repository.opener, Kind.INTENT, intent)
        note = json.loads(text)
    except (ArchiveError, RepositoryError, ObjectMissing, ValueError, RecursionError):
        return {}
    return note | {"author": header.author} if isinstance(note, dict) else {}

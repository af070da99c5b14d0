"""Verify a repository: is everything there, and is every byte what it says? (docs/repository-format.md, 7, 14, 23; 64)

Quick: every object but the packs' blobs is opened, and every chunk of every backup must be in a listed pack. A share of
the packs, another one each day, is read as well. Full: all packs. What is found damaged is told to all writers first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from resurgam.counting import count_text
from resurgam.errors import ArchiveError, DamagedError, KeyRefused, ObjectMissing, RepositoryError, VerifyFailed
from resurgam.operations.collection import running
from resurgam.operations.losses import find_losses
from resurgam.operations.progress import Progress
from resurgam.operations.sought import Sought
from resurgam.pipeline.workers import ordered_map
from resurgam.repository.findings import NO_CHUNK, decode_checked, decode_damage, encode_checked, encode_damage
from resurgam.repository.layout import (
    CHECKED,
    DAMAGE,
    INDEXES,
    INTENTS,
    OUTCOMES,
    RECORDS,
    TOMBSTONES,
    checked_key,
    damage_key,
    id_of,
    new_id,
    pack_key,
)
from resurgam.repository.packs import CheckedPack, check_pack, read_directory
from resurgam.repository.records import Record, bodies
from resurgam.repository.repository import Repository, StoredBackup, read_config
from resurgam.repository.sealing import WRITE_ONLY, Kind, Sealer
from resurgam.repository.texts import read_text

# In so many days a quick verification a day has read everything.
SHARES = 30
_TEXTS = {
    INDEXES: Kind.INDEX,
    OUTCOMES: Kind.OUTCOME,
    TOMBSTONES: Kind.TOMBSTONE,
    RECORDS: Kind.RECORD,
    DAMAGE: Kind.DAMAGE,
    CHECKED: Kind.CHECKED,
    INTENTS: Kind.INTENT,
}
_NAMED = 10
# No pack of ours is longer: 16 MiB, and a last chunk.
_LARGE = 64 << 20
# Chunks that one object tells of, so that it stays as short as a reader wants it.
_TOLD = 500_000


@dataclass(frozen=True, slots=True)
class RepositoryVerdict:
    """What a verification found: `problems` are sentences about objects, `hurt` and `whole` names of backups. Of the
    packs' `bytes_stored`, `bytes_read` were compared."""

    full: bool
    packs: int
    packs_read: int
    bytes_stored: int
    bytes_read: int
    problems: tuple[str, ...]
    hurt: tuple[str, ...]
    whole: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.problems and not self.hurt

    def to_json(self) -> dict[str, Any]:
        return {
            "success": self.sound,
            "full": self.full,
            "packs": self.packs,
            "packs_read": self.packs_read,
            "bytes_stored": self.bytes_stored,
            "bytes_read": self.bytes_read,
            "problems": list(self.problems),
            "hurt": list(self.hurt),
            "whole": list(self.whole),
        }


@dataclass(slots=True)
class _Found:
    problems: list[str] = field(default_factory=list)
    damaged: dict[bytes, list[bytes]] = field(default_factory=dict)
    unreadable: set[bytes] = field(default_factory=set)
    checked: set[bytes] = field(default_factory=set)
    told_damaged: set[tuple[bytes, bytes]] = field(default_factory=set)
    told_checked: set[bytes] = field(default_factory=set)
    packs_read: int = 0
    bytes_read: int = 0


def verify_repository(
    repository: Repository,
    *,
    full: bool,
    today: datetime,
    progress: Progress,
    extra: Callable[[], Iterable[str]] = tuple,
) -> RepositoryVerdict:
    """Look at everything; nothing is changed but that damage is noted. `extra` gives problems of the keys.

    KeyRefused for a write-only host, RepositoryError where there is no repository any more.
    """
    if not repository.keys.can_read:
        raise KeyRefused(
            "This machine holds a write-only key and can verify nothing; nothing was checked.",
            "Do it on a machine that has the passphrase, or with the recovery kit.",
        )
    if read_config(repository.store) is None:
        raise RepositoryError(f"{repository.store.url} has lost its file `config`.", "Bring it back from a copy.")
    found = _Found([*extra()])
    progress.phase("Looking at the repository's objects")
    repository.index.reload()
    _open_texts(repository, found)
    backups = _backups(repository, found)
    packs = repository.index.packs
    wanted = [pack for pack in packs if full or _due(pack, today)]
    size = sum(packs[pack].size for pack in wanted)
    progress.phase("Reading the packs" if full else "Reading today's share of the packs", size)
    for pack, checked in ordered_map(lambda pack: (pack, _checked(repository, pack)), wanted):
        _take(repository, found, pack, checked)
        progress.advance(packs[pack].size)
    _note(repository, found)
    progress.phase("Looking for what the backups need")
    bad = {(pack, chunk) for pack, chunks in found.damaged.items() for chunk in chunks}
    sought = Sought(repository, bad, found.unreadable)
    hurt = [one.manifest.head.name for one in backups if not sought.whole(one)]
    names = {one.manifest.head.name for one in backups}
    return RepositoryVerdict(
        full=full,
        packs=len(packs),
        packs_read=found.packs_read,
        bytes_stored=sum(info.size for info in packs.values()),
        bytes_read=found.bytes_read,
        problems=tuple(found.problems),
        hurt=tuple(sorted(hurt)),
        whole=tuple(sorted(names - set(hurt))),
    )


def refuse_unsound(verdict: RepositoryVerdict) -> None:
    """VerifyFailed, saying what is hurt and what is whole, unless all is sound."""
    if verdict.sound:
        return
    hurt = f"Hurt: {_some(verdict.hurt)}." if verdict.hurt else "No backup is hurt by it."
    told = " ".join(("The repository is damaged.", *verdict.problems[:_NAMED], hurt))
    raise VerifyFailed(
        f"{told} Whole: {_some(verdict.whole)}.",
        "Take a backup now: what still exists at its source is stored again. Restore from those that are whole.",
    )


def note_damage(repository: Repository, backup: StoredBackup) -> None:
    """Read every pack that a backup needs, and tell all writers what in them is damaged (docs/ordering.md, 64).

    What of its list can't be read any more is left out.
    """
    found, packs = _Found(), set[bytes]()
    chunks = [chunk for chunk, _ in backup.manifest.list_chunks()]
    with suppress(DamagedError):
        for body in bodies(repository.reader.blocks(backup.manifest.list_chunks())):
            chunks += Record.decode(body).ids()
    for chunk in chunks:
        packs |= {place.pack for place in repository.index.locate(chunk)}
    for pack, checked in ordered_map(lambda pack: (pack, _checked(repository, pack)), packs):
        _take(repository, found, pack, checked)
    _open_texts(repository, found)
    _note(repository, found)


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[-_NAMED:]) + more if names else "none"


def _due(pack: bytes, today: datetime) -> bool:
    """Whether this is the pack's day: each of SHARES days has its own packs."""
    return int.from_bytes(pack[:4], "little") % SHARES == today.toordinal() % SHARES


def _open_texts(repository: Repository, found: _Found) -> None:
    """Every sealed text but the manifests, which `_backups` opens."""
    foreign: list[str] = []
    for folder, kind in _TEXTS.items():
        for stored in list(repository.store.list(folder)):
            name = id_of(stored.key)
            if name is None:
                foreign.append(stored.key)
                continue
            try:
                text = read_text(repository.store, repository.opener, kind, name)[1]
                if kind is Kind.DAMAGE:
                    found.told_damaged |= decode_damage(text)
                elif kind is Kind.CHECKED:
                    found.told_checked |= decode_checked(text)
            except ObjectMissing:
                continue  # removed meanwhile
            except (ArchiveError, RepositoryError) as error:
                found.problems.append(error.message)
    found.problems += [f"{key} is no object of this repository." for key in foreign[:_NAMED]]
    if len(foreign) > _NAMED:
        found.problems.append(f"So are {count_text(len(foreign) - _NAMED, 'more object')}.")
    found.problems += [one for one in repository.index.troubles if one not in found.problems]


def _backups(repository: Repository, found: _Found) -> list[StoredBackup]:
    standing = repository.standing()
    backups, unreadable = repository.backups()
    found.problems += [one.problem for one in unreadable if one.problem not in found.problems]
    try:
        repository.index.reload()  # the packs of all that were committed by then
        lost = find_losses(repository, standing)
    except (ArchiveError, RepositoryError, KeyRefused):
        pass  # a manifest, which was told of
    else:
        found.problems += [f"There is no trace of {one}." for one in lost.words]
        found.damaged |= {pack: [NO_CHUNK] for pack in lost.packs}
    if not running(repository):
        found.problems += [
            f"The manifest {one.hex()} has no outcome: its backup was not finished, or the outcome was lost."
            for one in standing.undecided
        ]
    return backups


def _checked(repository: Repository, pack: bytes) -> CheckedPack | str:
    """A pack as its bytes show it, or what is wrong with it as a whole; "" if it was removed meanwhile."""
    info = repository.index.packs[pack]
    try:
        if not info.believed or info.size > _LARGE:  # before so much is read, its directory must be authentic
            read_directory(repository.opener, repository.store, pack, info.size)
        return check_pack(pack, repository.store.get(pack_key(pack), 0, info.size), repository.opener)
    except ObjectMissing:
        return ""
    except (ArchiveError, RepositoryError, KeyRefused) as error:
        return error.message


def _take(repository: Repository, found: _Found, pack: bytes, checked: CheckedPack | str) -> None:
    if isinstance(checked, str):
        if checked:
            found.problems.append(checked)
            found.unreadable.add(pack)
            found.damaged[pack] = [entry.chunk for entry in repository.index.entries_of(pack)] or [NO_CHUNK]
        return
    found.packs_read += 1
    found.bytes_read += repository.index.packs[pack].size
    if checked.damaged:
        found.damaged[pack] = [entry.chunk for entry in checked.damaged]
        many = count_text(len(checked.damaged), "damaged chunk")
        found.problems.append(f"The pack {pack.hex()} holds {many} of {len(checked.entries)}.")
    elif checked.author == WRITE_ONLY:
        found.checked.add(pack)


def _note(repository: Repository, found: _Found) -> None:
    """Tell all writers: what is damaged counts as absent, what a write-only host wrote soundly may be reused."""
    sealer, store = Sealer(repository.keys), repository.store
    damaged = {
        pack: new
        for pack, chunks in found.damaged.items()
        if (new := [chunk for chunk in chunks if (pack, chunk) not in found.told_damaged])
    }
    for part in _parts(damaged):
        name = new_id()
        store.put(damage_key(name), sealer.seal_text(Kind.DAMAGE, name, encode_damage(part)))
    fresh = found.checked - found.told_checked
    if fresh:
        name = new_id()
        store.put(checked_key(name), sealer.seal_text(Kind.CHECKED, name, encode_checked(fresh)))
    if damaged or fresh:
        repository.index.reload()


def _parts(damaged: dict[bytes, list[bytes]]) -> Iterator[dict[bytes, list[bytes]]]:
    part: dict[bytes, list[bytes]] = {}
    size = 0
    for pack, chunks in damaged.items():
        for at in range(0, len(chunks), _TOLD):
            piece = chunks[at : at + _TOLD]
            if part and size + len(piece) > _TOLD:
                yield part
                part, size = {}, 0
            part[pack] = piece
            size += len(piece)
    if part:
        yield part

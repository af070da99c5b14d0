"""Where backups are kept, as operations need it: archives in BACKUP_DIR (archive_holdings.py), or a repository.

This installation's own folder (its lock, its scratch space, drills' evidence) is another matter: `stores/folder.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from resurgam.archive.entry import Entry, Offer
from resurgam.archive.opening import Archive
from resurgam.catalog.catalog import Description
from resurgam.errors import KeyRefused, NotFoundError, ResurgamError, StorageError
from resurgam.operations.progress import Progress
from resurgam.stores.listing import FoundArchive


@dataclass(frozen=True, slots=True)
class Held:
    """A backup that was committed: its size in bytes, and when, in seconds since 1970 by that place's own clock.

    `added`: what it made the place larger by, where that is another figure.
    """

    size: int
    stored_at: float
    added: int | None = None


@dataclass(frozen=True, slots=True)
class NewBackup:
    """What is known of a backup before anything of it is stored; `taken_at` is UTC."""

    name: str
    taken_at: datetime
    sequence: int

    @property
    def mtime_ns(self) -> int:
        """The time that what we make ourselves has in the backup."""
        return int(self.taken_at.timestamp()) * 1_000_000_000


class BackupWriter(Protocol):
    """Takes a backup's entries below its top folder, in the stream's order; what it has taken so far."""

    @property
    def total_files(self) -> int: ...
    @property
    def content_bytes(self) -> int: ...
    @property
    def restrict_key(self) -> str: ...
    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None: ...
    def add_late(self, entry: Entry, blocks: Iterable[bytes]) -> Entry: ...
    def offer(self, offered: Offer) -> None: ...
    def settle(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Draft:
    """A backup under way. `commit` takes the metadata's bytes, checks all that was stored, and makes it a backup."""

    writer: BackupWriter
    commit: Callable[[bytes], Held]


class Collected(Protocol):
    """What freeing space did, or would do; `freed` in bytes."""

    @property
    def freed(self) -> int: ...
    def to_json(self) -> dict[str, Any]: ...


class Verified(Protocol):
    """What a verification of everything found sound: names of backups, and how many bytes were read."""

    @property
    def whole(self) -> tuple[str, ...]: ...
    @property
    def bytes_read(self) -> int: ...
    def to_json(self) -> dict[str, Any]: ...


class Holdings(Protocol):
    """The place. A name that is not there is a NotFoundError; a place that fails, a StorageError."""

    @property
    def location(self) -> str:
        """What its copies are called in lists."""

    @property
    def troubles(self) -> tuple[str, ...]:
        """What `found` met, beside the backups, that somebody must know: a sentence each."""

    def found(self) -> list[FoundArchive]:
        """What is there now, by name; never only a part of it."""

    def require_readable(self) -> None:
        """KeyRefused where this machine may only add backups, whatever there is."""

    def ever(self) -> int:
        """How many backups were ever taken, as far as that is told otherwise than by their own metadata."""

    def changed_at(self) -> int:
        """Another number than before if something came or went, where that costs nothing to tell."""

    def has(self, name: str) -> bool:
        """Whether a backup of that name is there at this moment."""

    def reserving(self, name: str) -> AbstractContextManager[bool]:
        """Keeps a name for one that is about to be `writing`; False if another machine may be about to take it."""

    def series_of(self, name: str) -> str:
        """What retention counts a backup with: those that others can't add to."""

    def describe(self, name: str) -> Description:
        """What a backup says of itself. FileNotFoundError if it is gone; whatever is wrong with it is described."""

    def open(self, name: str) -> Archive:
        """The backup, for reading. Raises as `open_archive` does."""

    def lacking(self, name: str) -> int:
        """How many of its chunks are nowhere to be had, by what is listed; no content is read."""

    def verify_all(self, progress: Progress, now: datetime, *, full: bool) -> Verified | None:
        """Verify all backups together, where they share what they consist of; None where each stands alone.

        VerifyFailed says what is hurt and what is whole.
        """

    def note_damage(self, name: str) -> None:
        """After a verification that found a backup damaged: tell whoever writes here what of it counts as absent."""

    def place_of(self, name: str) -> str:
        """Where it lies, as users are told."""

    def file_of(self, name: str) -> Path | None:
        """The archive that it is, where it is one file."""

    def stream(self, name: str) -> Iterator[bytes]:
        """The backup as a `.tar.gz`, in pieces; the same bytes each time."""

    def writing(self, new: NewBackup) -> AbstractContextManager[Draft]:
        """A new backup; unless it was committed, nothing of it is to be seen after the block."""

    def delete(self, name: str) -> int:
        """Remove a backup and its drill's evidence; answers its size in bytes. Durable on return."""

    def delete_all(self, names: Sequence[str]) -> dict[str, str]:
        """The same for several, by one step where that can be; what is gone already is fine. Answers what went wrong, a
        message by name."""

    def foresee(self, doomed: Iterable[str], progress: Progress, *, accept: bool, refuse: bool) -> Collected | None:
        """What `collect` would free once the backups of these names are deleted; with `refuse`, CollectionRefused if
        that is more than may go unasked."""

    def collect(self, progress: Progress, *, accept: bool, checked: bool) -> Collected | None:
        """Free what no backup needs any more; None where nothing is shared, so that `delete` has freed all of it."""

    def time(self) -> float:
        """The place's own clock, in seconds since 1970."""


def delete_each(delete: Callable[[str], object], names: Iterable[str]) -> dict[str, str]:
    """`Holdings.delete_all` where each backup stands alone: one that fails does not keep the others."""
    wrong = {}
    for name in names:
        try:
            delete(name)
        except NotFoundError:
            continue  # somebody was quicker
        except ResurgamError as error:
            wrong[name] = error.message
    return wrong


def described(opening: Callable[[], Archive]) -> Description:
    """What a backup that `opening` opens says of itself, as `Holdings.describe` answers it. KeyRefused passes."""
    try:
        with opening() as archive:
            return Description("foreign" if archive.foreign else "good", "", archive.metadata())
    except NotFoundError as error:
        raise FileNotFoundError(error.message) from None
    except KeyRefused:
        raise
    except ResurgamError as error:
        # What could not be read (a mount that stalled, a file of another user) may be whole.
        return Description("damaged", error.message, lasting=not isinstance(error, StorageError))

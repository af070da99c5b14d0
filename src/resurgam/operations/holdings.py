"""Where backups are kept, as operations need it: archives in BACKUP_DIR (archive_holdings.py), or a repository.

This installation's own folder (its lock, its scratch space, drills' evidence) is another matter: `stores/folder.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resurgam.archive.entry import Entry, Offer
from resurgam.archive.opening import Archive
from resurgam.catalog.catalog import Description
from resurgam.errors import KeyRefused, NotFoundError, ResurgamError, StorageError
from resurgam.stores.listing import FoundArchive


@dataclass(frozen=True, slots=True)
class Held:
    """A backup that was committed: its size in bytes, and when, in seconds since 1970 by that place's own clock."""

    size: int
    stored_at: float


class BackupWriter(Protocol):
    """Takes a backup's entries below its top folder, in the stream's order; what it has taken so far."""

    @property
    def total_files(self) -> int: ...
    @property
    def content_bytes(self) -> int: ...
    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None: ...
    def add_late(self, entry: Entry, blocks: Iterable[bytes]) -> Entry: ...
    def offer(self, offered: Offer) -> None: ...
    def settle(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Draft:
    """A backup under way. `commit` takes the metadata's bytes, checks all that was stored, and makes it a backup."""

    writer: BackupWriter
    commit: Callable[[bytes], Held]


class Holdings(Protocol):
    """The place. A name that is not there is a NotFoundError; a place that fails, a StorageError."""

    @property
    def location(self) -> str:
        """What its copies are called in lists."""

    def found(self) -> list[FoundArchive]:
        """What is there now, by name; never only a part of it."""

    def changed_at(self) -> int:
        """Another number than before if something came or went, where that costs nothing to tell."""

    def has(self, name: str) -> bool:
        """Whether a backup of that name is there at this moment."""

    def describe(self, name: str) -> Description:
        """What a backup says of itself. FileNotFoundError if it is gone; whatever is wrong with it is described."""

    def open(self, name: str) -> Archive:
        """The backup, for reading. Raises as `open_archive` does."""

    def place_of(self, name: str) -> str:
        """Where it lies, as users are told."""

    def file_of(self, name: str) -> Path | None:
        """The archive that it is, where it is one file."""

    def writing(self, name: str, mtime_ns: int) -> AbstractContextManager[Draft]:
        """A new backup; unless it was committed, nothing of it is to be seen after the block."""

    def delete(self, name: str) -> int:
        """Remove a backup and its drill's evidence; answers its size in bytes. Durable on return."""

    def time(self) -> float:
        """The place's own clock, in seconds since 1970."""


def described(opening: Callable[[], Archive]) -> Description:
    """What a backup that `opening` opens says of itself, as `Holdings.describe` answers it."""
    try:
        with opening() as archive:
            return Description("foreign" if archive.foreign else "good", "", archive.metadata())
    except NotFoundError as error:
        raise FileNotFoundError(error.message) from None
    except KeyRefused as error:
        return Description("sealed", error.message)
    except ResurgamError as error:
        # What could not be read (a mount that stalled, a file of another user) may be whole.
        return Description("damaged", error.message, lasting=not isinstance(error, StorageError))

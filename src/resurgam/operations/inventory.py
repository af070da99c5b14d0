"""The backups there are: those held here and the remote folder's archives, described through the catalog.

The catalog is a cache. Whatever it says is compared with the folders first, so a deleted catalog, or archives copied
into an empty folder (the manual's scenario 1), change nothing but the time of the first listing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from resurgam.archive.opening import Archive, open_archive
from resurgam.archive.sealing import NO_KEYS, ArchiveKeys
from resurgam.catalog.catalog import BackupCopy, BackupRecord, Catalog, Description, StoredFile
from resurgam.errors import KeyRefused, NotFoundError, ResurgamError, StorageError
from resurgam.operations.archive_holdings import describe_file, plain_blocks
from resurgam.operations.holdings import Holdings
from resurgam.policy.as_of import newest_before, parse_moment
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import SUFFIXES, FoundArchive, is_backup_name, split_name
from resurgam.stores.mounted import RemoteFolder

MB = 1 << 20


def megabytes(size: int) -> float:
    """Bytes in MB of 1,048,576, with at most three decimals, as the manual shows sizes."""
    return math.floor(size / MB * 1000 + 0.5) / 1000


@dataclass(slots=True)
class Inventory:
    """Where backups are held, perhaps a remote folder, and what is known of the backups in both; and the folder that
    is this installation's own.

    `warnings` collects what kept a location from being read; its copies are then not listed, and not forgotten.
    """

    folder: BackupFolder
    holdings: Holdings
    remote: RemoteFolder | None
    catalog: Catalog
    warnings: list[str] = field(default_factory=list)
    remote_readable: bool = False
    keys: ArchiveKeys = NO_KEYS

    def refresh(self) -> None:
        """Bring the catalog up to what the folders hold now."""
        self.refresh_held(self.holdings.found())
        self.warnings += [one for one in self.holdings.troubles if one not in self.warnings]
        self.remote_readable = False
        try:
            self.refresh_remote()
            self.remote_readable = self.remote is not None
        except ResurgamError as error:
            if error.message not in self.warnings:
                self.warnings.append(error.message)

    def refresh_held(self, found: list[FoundArchive]) -> None:
        """Only what the holdings were found to have. What was known of another kind of holdings is forgotten."""
        for location in {"local", "repository"} - {self.holdings.location}:
            self.catalog.refresh(location, (), _describe_nothing)
        self._refresh_one(self.holdings.location, found, self.holdings.describe)

    def refresh_remote(self) -> None:
        """Only the remote folder. StorageError if it can't be read; its copies are then not forgotten."""
        if self.remote is None:
            self.catalog.refresh("remote", (), _describe_nothing)
        else:
            remote = self.remote
            self._refresh_one(
                "remote", remote.archives(), lambda name: describe_file(remote.archive_path(name), self.keys)
            )

    def records(self) -> list[BackupRecord]:
        """All backups, the newest first."""
        return list(reversed(self.catalog.backups()))

    def find(self, name: str) -> BackupRecord:
        """The backup of that name (with or without the file's ending). NotFoundError if there is none, KeyRefused where
        none can be seen."""
        self.holdings.require_readable()
        plain = split_name(name)[0]
        record = self.catalog.get(plain) if is_backup_name(plain) else None
        if record is None:
            shown = "".join(c if c.isprintable() else "?" for c in name[:100])
            raise NotFoundError(f"There is no backup named {shown!r}.", "`resurgam list` shows those there are.")
        return record

    def as_of(self, moment: str, zone: tzinfo | None = None) -> BackupRecord:
        """The backup that holds the state as of a moment, of the machine's own zone if it says none and `zone` is None.

        UsageError if it is no moment, NotFoundError if there is no backup from before it.
        """
        wanted = parse_moment(moment, zone)
        self.holdings.require_readable()
        self.refresh()
        return newest_before(self.records(), wanted)

    def open(self, record: BackupRecord) -> Archive:
        """The best copy, for reading; the catalog hears of one that was sealed. Raises as `open_archive` does."""
        archive = self._open(record)
        if record.condition == "sealed":
            try:
                self.learn(record.name, record.locations[0], archive.metadata(), foreign=archive.foreign)
            except BaseException:
                archive.close()
                raise
        return archive

    def looked_at(self, record: BackupRecord) -> BackupRecord:
        """The record; a sealed copy in the age format is opened for it, if our keys do that."""
        if record.condition == "sealed" and record.copies[0].form == "age":
            try:
                self.open(record).close()
            except (KeyRefused, StorageError):
                return record
            except ResurgamError as error:
                self.catalog.learn(record.locations[0], record.name, Description("damaged", error.message))
            return self.find(record.name)
        return record

    def _open(self, record: BackupRecord) -> Archive:
        if record.locations[0] == "remote" and self.remote is not None:
            return open_archive(self.remote.archive_path(record.name), self.keys)
        return self.holdings.open(record.name)

    def learn(self, name: str, location: str, metadata: Mapping[str, Any], *, foreign: bool = False) -> None:
        """What a copy says of itself, found out otherwise than by describing it."""
        self.catalog.learn(location, name, Description("foreign" if foreign else "good", "", metadata))

    def is_sealed(self, name: str, location: str) -> bool:
        """Whether nothing is known of that copy but its name, size and time."""
        record = self.catalog.get(name)
        return record is not None and any((c.location, c.condition) == (location, "sealed") for c in record.copies)

    def next_sequence(self, taken_at: datetime) -> int:
        """The number of a new backup, above all others: also those of sealed archives, which can't be read
        (archive-format.md, 40)."""
        unknown = any(record.condition == "sealed" for record in self.records())
        return max(self.catalog.next_sequence(), int(taken_at.timestamp()) if unknown else 0)

    def file_of(self, record: BackupRecord) -> Path | None:
        """The best copy's archive, where it is one file."""
        if record.locations[0] == "remote" and self.remote is not None:
            return self.remote.archive_path(record.name)
        return self.holdings.file_of(record.name)

    def stream(self, record: BackupRecord) -> Iterator[bytes]:
        """The best copy as a `.tar.gz`, in pieces, decrypted. Raises as `open_archive` does."""
        if record.locations[0] == "remote" and self.remote is not None:
            return plain_blocks(self.remote.archive_path(record.name), self.keys)
        return self.holdings.stream(record.name)

    def summary(self, record: BackupRecord) -> dict[str, Any]:
        """The manual's entry of a list, and beside it what else a user wants to see at a glance."""
        timestamp = record.name.rpartition("_backup_")[2]
        return {
            "backup_name": record.name,
            "timestamp": timestamp,
            "datetime": plain_datetime(record.taken_at),
            "archive_path": self._place_of(record.name, record.copies[0]),
            "size_mb": megabytes(record.size),
            "database_size_mb": None if record.database_size is None else megabytes(record.database_size),
            "size_bytes": record.size,
            "database_size_bytes": record.database_size,
            "sequence": record.sequence,
            "condition": record.condition,
            "problem": record.problem,
            "locations": list(record.locations),
            "encryption": record.copies[0].form or None,
        }

    def details(self, record: BackupRecord) -> dict[str, Any]:
        """`summary` with the backup's copies and its metadata."""
        copies = [
            {
                "location": copy.location,
                "path": self._place_of(record.name, copy),
                "size_mb": megabytes(copy.size),
                "condition": copy.condition,
                "problem": copy.problem,
            }
            for copy in record.copies
        ]
        return {**self.summary(record), "copies": copies, "metadata": self.catalog.metadata(record.name)}

    def _place_of(self, name: str, copy: BackupCopy) -> str:
        # As text, without the Path in between that costs more than all else in a list of thousands.
        if copy.location == "remote" and self.remote is not None:
            return f"{self.remote.path}/{name}{SUFFIXES[copy.form]}"
        if copy.location == "local":
            return f"{self.folder.path}/{name}{SUFFIXES[copy.form]}"
        return self.holdings.place_of(name)

    def _refresh_one(self, location: str, found: list[FoundArchive], describe: Callable[[str], Description]) -> None:
        self.catalog.refresh(
            location,
            (StoredFile(location, one.name, one.size, one.mtime_ns, one.identity, one.form) for one in found),
            lambda file: describe(file.name),
        )
        if self.keys.has_identities:
            self._open_sealed(location, describe)

    def _open_sealed(self, location: str, describe: Callable[[str], Description]) -> None:
        """An identity may be here by now that opens what was sealed before."""
        for record in self.catalog.backups():
            if any((c.location, c.condition, c.form) == (location, "sealed", "age") for c in record.copies):
                description = describe(record.name)
                if description.condition != "sealed":
                    self.catalog.learn(location, record.name, description)


def plain_datetime(moment: datetime) -> str:
    """The manual's `datetime`: UTC, to the second, without a zone."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat()


def _describe_nothing(file: StoredFile) -> Description:
    raise FileNotFoundError(file.name)

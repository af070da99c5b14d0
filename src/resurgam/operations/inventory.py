"""The backups there are: the folder's and the remote folder's archives, described through the catalog.

The catalog is a cache. Whatever it says is compared with the folders first, so a deleted catalog, or archives copied
into an empty folder (the manual's scenario 1), change nothing but the time of the first listing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

from resurgam.archive.opening import open_archive
from resurgam.catalog.catalog import BackupRecord, Catalog, Description, StoredFile
from resurgam.errors import NotFoundError, ResurgamError, StorageError
from resurgam.policy.as_of import newest_before, parse_moment
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import SUFFIX, FoundArchive, is_backup_name
from resurgam.stores.mounted import RemoteFolder

MB = 1 << 20


def megabytes(size: int) -> float:
    """Bytes in MB of 1,048,576, with at most three decimals, as the manual shows sizes."""
    return math.floor(size / MB * 1000 + 0.5) / 1000


@dataclass(slots=True)
class Inventory:
    """One folder, perhaps a remote one, and what is known of the backups in both.

    `warnings` collects what kept a location from being read; its copies are then not listed, and not forgotten.
    """

    folder: BackupFolder
    remote: RemoteFolder | None
    catalog: Catalog
    warnings: list[str] = field(default_factory=list)
    remote_readable: bool = False

    def refresh(self) -> None:
        """Bring the catalog up to what the folders hold now."""
        self.refresh_local(self.folder.archives())
        self.remote_readable = False
        try:
            self.refresh_remote()
            self.remote_readable = self.remote is not None
        except ResurgamError as error:
            if error.message not in self.warnings:
                self.warnings.append(error.message)

    def refresh_local(self, found: list[FoundArchive]) -> None:
        """Only what BACKUP_DIR was found to hold."""
        self._refresh_one("local", found, self.folder.path)

    def refresh_remote(self) -> None:
        """Only the remote folder. StorageError if it can't be read; its copies are then not forgotten."""
        if self.remote is None:
            self.catalog.refresh("remote", (), _describe_nothing)
        else:
            self._refresh_one("remote", self.remote.archives(), self.remote.path)

    def records(self) -> list[BackupRecord]:
        """All backups, the newest first."""
        return list(reversed(self.catalog.backups()))

    def find(self, name: str) -> BackupRecord:
        """The backup of that name (with or without `.tar.gz`). NotFoundError if there is none."""
        plain = name.removesuffix(SUFFIX)
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
        self.refresh()
        return newest_before(self.records(), wanted)

    def path_of(self, record: BackupRecord, location: str | None = None) -> Path:
        """The file of the best copy, or of the one in `location`."""
        where = location or record.locations[0]
        if where == "remote" and self.remote is not None:
            return self.remote.archive_path(record.name)
        return self.folder.archive_path(record.name)

    def summary(self, record: BackupRecord) -> dict[str, Any]:
        """The manual's entry of a list, and beside it what else a user wants to see at a glance."""
        timestamp = record.name.rpartition("_backup_")[2]
        return {
            "backup_name": record.name,
            "timestamp": timestamp,
            "datetime": plain_datetime(record.taken_at),
            "archive_path": self._shown_path(record),
            "size_mb": megabytes(record.size),
            "database_size_mb": None if record.database_size is None else megabytes(record.database_size),
            "size_bytes": record.size,
            "database_size_bytes": record.database_size,
            "sequence": record.sequence,
            "condition": record.condition,
            "problem": record.problem,
            "locations": list(record.locations),
        }

    def details(self, record: BackupRecord) -> dict[str, Any]:
        """`summary` with the backup's copies and its metadata."""
        copies = [
            {
                "location": copy.location,
                "path": str(self.path_of(record, copy.location)),
                "size_mb": megabytes(copy.size),
                "condition": copy.condition,
                "problem": copy.problem,
            }
            for copy in record.copies
        ]
        return {**self.summary(record), "copies": copies, "metadata": self.catalog.metadata(record.name)}

    def _shown_path(self, record: BackupRecord) -> str:
        """`path_of` as text, without the Path in between that costs more than all else in a list of thousands."""
        remote = self.remote if record.locations[0] == "remote" else None
        return f"{(remote or self.folder).path}/{record.name}{SUFFIX}"

    def _refresh_one(self, location: str, found: list[FoundArchive], folder: Path) -> None:
        self.catalog.refresh(
            location,
            (StoredFile(location, one.name, one.size, one.mtime_ns, one.identity) for one in found),
            lambda file: describe(folder / f"{file.name}{SUFFIX}"),
        )


def describe(path: Path) -> Description:
    """Read what an archive says of itself. FileNotFoundError if it is gone; whatever is wrong with it is described."""
    try:
        with open_archive(path) as archive:
            metadata: Mapping[str, Any] = archive.metadata()
            return Description("foreign" if archive.foreign else "good", "", metadata)
    except NotFoundError:
        raise FileNotFoundError(path) from None
    except ResurgamError as error:
        # What could not be read (a mount that stalled, a file of another user) may be whole.
        return Description("damaged", error.message, lasting=not isinstance(error, StorageError))


def plain_datetime(moment: datetime) -> str:
    """The manual's `datetime`: UTC, to the second, without a zone."""
    return moment.replace(microsecond=0, tzinfo=None).isoformat()


def _describe_nothing(file: StoredFile) -> Description:
    raise FileNotFoundError(file.name)

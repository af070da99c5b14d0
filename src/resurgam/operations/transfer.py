"""A backup out of where it is kept into one archive, and an archive in.

Export writes the bytes that are stored, none made anew but what only an archive has; import reads an archive to its
last byte before anything of it is stored, and stores it as if it had been taken here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from blake3 import blake3

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.opening import Archive, open_archive
from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.facts import facts_of
from resurgam.catalog.moments import from_us
from resurgam.durable import fsync_folder, rename_new, write_all
from resurgam.errors import ArchiveError, DamagedError, StorageError, UsageError
from resurgam.operations.holdings import Draft, NewBackup
from resurgam.operations.inventory import Inventory, megabytes
from resurgam.operations.progress import Progress, Silent
from resurgam.operations.verify import dump_name, verify
from resurgam.stores.listing import SUFFIX, is_backup_name, split_name

_READ = 4 << 20


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The archive that was written, and read back; `digest` is its BLAKE3, the same for each export of the backup."""

    name: str
    path: Path
    size: int
    digest: str

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "backup_name": self.name,
            "archive_path": str(self.path),
            "size_mb": megabytes(self.size),
            "size_bytes": self.size,
            "blake3": self.digest,
        }


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The backup that is kept now; `size` in bytes, as lists show it. Not `new`: the same was there already."""

    name: str
    place: str
    size: int
    new: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "success": True,
            "imported": self.new,
            "backup_name": self.name,
            "archive_path": self.place,
            "size_mb": megabytes(self.size),
            "size_bytes": self.size,
        }


def export_backup(inventory: Inventory, name: str, target: Path, progress: Progress) -> ExportResult:
    """Write a backup as one archive. `target` is a new file, or a folder, in which it gets its name.

    NotFoundError; UsageError if the file is there already; StorageError if it can't be written, or reads back
    otherwise. Nothing is left then.
    """
    inventory.refresh()
    record = inventory.find(name)
    path = target / f"{record.name}{SUFFIX}" if target.is_dir() else target
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already, and nothing is overwritten.", "Name another file.")
    partial = path.with_name(f".{path.name}.partial")
    progress.phase(f"Exporting {record.name}", record.size)
    try:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            size, digest = _write(fd, inventory.stream(record), progress)
            rename_new(partial, path)
        finally:
            os.close(fd)
            partial.unlink(missing_ok=True)
        fsync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path} could not be written ({error.strerror}); no archive is there.") from None
    return ExportResult(record.name, path, size, digest)


def _write(fd: int, blocks: Iterator[bytes], progress: Progress) -> tuple[int, str]:
    written, read, size = blake3(), blake3(), 0
    for block in blocks:
        write_all(fd, block)
        written.update(block)
        size += len(block)
        progress.advance(len(block))
    os.fsync(fd)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    offset = 0
    while block := os.pread(fd, _READ, offset):
        read.update(block)
        offset += len(block)
    if read.digest() != written.digest():
        raise StorageError("The disk gave back other bytes than were written; no archive is there.")
    return size, written.hexdigest()


def import_archive(inventory: Inventory, path: Path, progress: Progress) -> ImportResult:
    """Take an archive, ours or foreign, among the backups; under its name, which no other may have.

    It is verified whole first. Where the same backup is there already, as after a run that died before it could say so,
    nothing is done. The caller holds the folder's lock.
    """
    name, _ = split_name(path.name)
    if not is_backup_name(name):
        raise UsageError(
            f"{path.name} is not the name of a backup's archive; nothing was imported.",
            f"An archive is called APP_backup_YYYYMMDD_HHMMSS{SUFFIX}, after the folder in it.",
        )
    inventory.refresh()
    with open_archive(path, inventory.keys) as archive:
        if inventory.catalog.get(name) is not None or inventory.holdings.has(name):
            return _there_already(inventory, name, archive, progress)
        verify(archive, progress)
        metadata = archive.metadata()
        facts = facts_of(name, path.stat().st_mtime_ns, metadata)
        new = NewBackup(name, from_us(facts.taken_us), facts.sequence)
        progress.phase(f"Importing {name}", archive.size)
        with inventory.holdings.writing(new) as draft:
            held = draft.commit(_copy(archive, dump_name(metadata, name), draft, progress))
    with suppress(StorageError):  # the backup is there; the next list looks anew
        inventory.refresh()
    return ImportResult(name, inventory.holdings.place_of(name), held.size)


def _there_already(inventory: Inventory, name: str, archive: Archive, progress: Progress) -> ImportResult:
    """UsageError unless the backup of that name is the archive's, byte by byte."""
    record = inventory.catalog.get(name)
    if record is not None and _equal(inventory, record, archive, progress):
        summary = inventory.summary(record)
        return ImportResult(name, summary["archive_path"], record.size, new=False)
    raise UsageError(f"There is another backup {name} already; nothing was imported.", "`resurgam show` tells of it.")


def _equal(inventory: Inventory, record: BackupRecord, archive: Archive, progress: Progress) -> bool:
    """Whether all entries are the same in the same order; of the metadata, whose place and time are not kept, what it
    says. False if the backup that is there is damaged."""
    try:
        with inventory.open(record) as there:
            if archive.metadata() != there.metadata():
                return False
            verify(archive, progress)  # so that what fails from here on is the other
            progress.phase(f"Comparing it with {record.name}", archive.size)
            return all(
                one == other for one, other in zip_longest(_digests(archive, progress), _digests(there, Silent()))
            )
    except ArchiveError:
        return False


def _digests(archive: Archive, progress: Progress) -> Iterator[tuple[Entry, bytes]]:
    for entry, blocks in archive.walk():
        if entry.path != METADATA_NAME:
            digest = blake3()
            for block in _counted(blocks, progress):
                digest.update(block)
            yield entry, digest.digest()


def _copy(archive: Archive, dump_path: str, draft: Draft, progress: Progress) -> bytes:
    """Every entry into the draft; answers the metadata's bytes, which are committed last."""
    metadata: bytes | None = None
    dump = dump_path.encode("utf-8", "surrogateescape")
    for entry, blocks in archive.walk():
        if entry.path == METADATA_NAME and entry.kind is Kind.FILE:
            metadata = b"".join(blocks)
        else:
            counted = _counted(blocks, progress)
            # A dump is cut as finely as the next one will be, so that they share chunks.
            draft.writer.add_late(entry, counted) if entry.path == dump else draft.writer.add(entry, counted)
    if metadata is None:
        raise DamagedError(f"{archive.name} holds no backup_metadata.json; nothing was imported.")
    return metadata


def _counted(blocks: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for block in blocks:
        progress.advance(len(block))
        yield block

"""The quick verification of a backup in a repository: all of its structure, and each day another share of its bytes.

Packs were verified before they were stored, and each chunk is again when it is read. So what a quick verification finds
is what got lost or was changed since: a chunk that is in no pack is found at once, a changed one within thirty days.
"""

from __future__ import annotations

import zlib
from datetime import datetime

from resurgam.archive.entry import Kind
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.opening import IndexedArchive
from resurgam.catalog.catalog import BackupRecord
from resurgam.counting import count_text
from resurgam.errors import DamagedError
from resurgam.operations.inventory import Inventory
from resurgam.operations.progress import Progress
from resurgam.operations.verify import VerifyResult, dump_name, verify

DAYS = 30


def verify_record(
    inventory: Inventory, record: BackupRecord, progress: Progress, now: datetime, *, full: bool
) -> VerifyResult:
    """Verify a backup's best copy: an archive always whole, one in a repository as `full` says. Raises as `verify`."""
    with inventory.open(record) as archive:
        if full or isinstance(archive, ForeignArchive) or inventory.file_of(record) is not None:
            try:
                return verify(archive, progress)
            except DamagedError:
                inventory.holdings.note_damage(record.name)
                raise
        lacking = inventory.holdings.lacking(record.name)
        if lacking:
            raise DamagedError(
                f"{record.name} lacks {count_text(lacking, 'piece')} that no pack of the repository has.",
                "The next backup stores again what it still has; `resurgam verify --all` says which backups are whole.",
            )
        return _verify_share(archive, now.toordinal() % DAYS, progress)


def _verify_share(archive: IndexedArchive, day: int, progress: Progress) -> VerifyResult:
    """Metadata and every entry's name by the list; the day's files whole, and the day's part of the dump."""
    metadata = archive.metadata()
    dump = dump_name(metadata, archive.name).encode("utf-8", "surrogateescape")
    found = archive.find(dump)
    if found is None:
        raise DamagedError(f"The backup {archive.name} holds no {dump.decode('utf-8', 'backslashreplace')}.")
    progress.phase(f"Verifying a share of {archive.name}")
    files = content = 0
    for entry in archive.entries():
        if entry.kind is Kind.FILE:
            files += 1
            content += entry.size
    for _, blocks in archive.contents(lambda entry: entry.path != dump and zlib.crc32(entry.path) % DAYS == day):
        for block in blocks:
            progress.advance(len(block))
    share = -(-found.entry.size // DAYS)
    begin = min(day * share, found.entry.size)
    for block in archive.read(found.offset + begin, min(share, found.entry.size - begin)):
        progress.advance(len(block))
    tables = metadata["database"].get("tables")
    counted = tables if isinstance(tables, list) else []
    return VerifyResult(
        name=archive.name,
        date=str(metadata.get("datetime", ""))[:19],
        total_files=files,
        size=archive.size,
        content=content,
        tables=len(counted),
        rows=sum(one[2] for one in counted if isinstance(one, list) and len(one) == 3),
        foreign=False,
        path=archive.place,
        full=False,
    )

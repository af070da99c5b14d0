"""What goes into a backup's tar stream, and where its segments end (docs/archive-format.md, sentences 7, 10 and 14)."""

from __future__ import annotations

import zlib

from resurgam.archive.entry import Entry
from resurgam.archive.headers import MAX_TIME, MIN_TIME
from resurgam.archive.names import check_path
from resurgam.archive.tarstream import MAX_MEMBERS
from resurgam.errors import FileSourceError, HostileError

# From this size on an entry's content is a segment of its own.
LARGE = 1 << 20


def admitted(entry: Entry, before: int) -> Entry:
    """The entry as it can be stored, after `before` others. FileSourceError for what every reader would refuse."""
    try:
        check_path(entry.path)
    except HostileError as error:
        raise FileSourceError(error.message, "Rename it, or leave it out with an exclude pattern.") from None
    if before >= MAX_MEMBERS:
        raise FileSourceError(f"There are more than {MAX_MEMBERS:,} entries, which no restore would take.")
    if MIN_TIME <= entry.mtime_ns <= MAX_TIME:
        return entry
    return entry._replace(mtime_ns=max(MIN_TIME, min(entry.mtime_ns, MAX_TIME)))


def ends_run(path: bytes) -> bool:
    """Whether a run of small entries ends behind this one: by its path, so that one new file moves no others."""
    return zlib.crc32(path) & 0xFF == 0

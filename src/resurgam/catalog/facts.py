"""The few facts that a list of backups shows, taken from metadata that anyone may have written.

Metadata of a foreign archive can be of any shape; what is not as expected counts as absent, never as an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resurgam.catalog.moments import to_us

_STAMP = re.compile(r"_backup_([0-9]{8}_[0-9]{6})\Z")
# Beyond any true count; a forged one must not exhaust SQLite's 64 bits for those that follow.
LARGEST_SEQUENCE = 2**48
_LARGEST_SIZE = 2**62


@dataclass(frozen=True, slots=True)
class Facts:
    """`sequence` 0: none; `taken_us`: microseconds from 1970; `database_size`: bytes."""

    sequence: int
    taken_us: int
    database_size: int | None


def facts_of(name: str, mtime_ns: int, metadata: Mapping[str, Any] | None) -> Facts:
    """The facts; the time is the metadata's, else that in the name, else the file's."""
    metadata = metadata or {}
    sequence = metadata.get("sequence")
    if type(sequence) is not int or not 0 < sequence <= LARGEST_SEQUENCE:
        sequence = 0
    taken = _moment(metadata.get("datetime_utc")) or _moment(metadata.get("datetime")) or _stamp(name)
    return Facts(sequence, to_us(taken) if taken else mtime_ns // 1000, _database_size(metadata.get("database")))


def _moment(text: object) -> datetime | None:
    """An ISO date and time; one without a zone is UTC, as the manual prints them."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _stamp(name: str) -> datetime | None:
    match = _STAMP.search(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _database_size(database: object) -> int | None:
    if not isinstance(database, Mapping):
        return None
    size, megabytes = database.get("size_bytes"), database.get("size_mb")
    if type(size) is int and 0 <= size <= _LARGEST_SIZE:
        return size
    if isinstance(megabytes, (int, float)) and 0 <= megabytes <= _LARGEST_SIZE >> 20:
        return round(megabytes * 1048576)
    return None

"""The tables of catalog.sqlite and state.sqlite, as SQLAlchemy Core knows them.

Times are whole microseconds from 1970 in UTC (columns `*_us`), which compare and sort without parsing. A change to
STATE needs a migration and STATE_VERSION + 1; a change to CATALOG needs CATALOG_VERSION + 1 and nothing else, for
a catalog of another version is thrown away and rebuilt.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

CATALOG_VERSION = 1
STATE_VERSION = 1
# PRAGMA application_id: "RsgC" and "RsgS", by which file(1) and we know our files.
CATALOG_ID = 0x52736743
STATE_ID = 0x52736753

CATALOG = MetaData()
STATE = MetaData()

copies = Table(
    "copies",
    CATALOG,
    Column("name", String, primary_key=True),
    Column("location", String, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("mtime_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("condition", String, nullable=False),
    Column("problem", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("taken_us", Integer, nullable=False),
    Column("database_size", Integer),
    sqlite_with_rowid=False,
)
# Apart from `copies`, so that a list of thousands of backups reads a few pages rather than all their metadata.
descriptions = Table(
    "descriptions",
    CATALOG,
    Column("name", String, primary_key=True),
    Column("location", String, primary_key=True),
    Column("metadata", Text, nullable=False),
)

identity = Table(
    "identity", STATE, Column("id", String, primary_key=True), Column("created_us", Integer, nullable=False)
)
runs = Table(
    "runs",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("target", String, nullable=False),
    Column("started_us", Integer, nullable=False),
    Column("finished_us", Integer),
    Column("outcome", String),
    Column("reason", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("process", String, nullable=False),
    sqlite_autoincrement=True,
)
Index("runs_unfinished", runs.c.id, sqlite_where=runs.c.outcome.is_(None))
pins = Table(
    "pins",
    STATE,
    Column("name", String, primary_key=True),
    Column("pinned_us", Integer, nullable=False),
)
restores = Table(
    "restores",
    STATE,
    Column("id", String, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("process", String, nullable=False),
    Column("started_us", Integer, nullable=False),
    Column("ended_us", Integer),
    Column("outcome", String),
)
restore_steps = Table(
    "restore_steps",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("restore_id", String, ForeignKey("restores.id"), nullable=False, index=True),
    Column("step", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("at_us", Integer, nullable=False),
    sqlite_autoincrement=True,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds from 1970 of an aware datetime, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The aware UTC datetime of that microsecond."""
    return _EPOCH + timedelta(microseconds=microseconds)

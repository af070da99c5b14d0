"""How state.sqlite comes to be and is opened.

Rules:
- It is never recreated silently. A damaged one is refused by name. A missing one of which the marker in the backup
  folder (`.resurgam-state`) tells is made anew, with a warning that says what is lost.
- It is created beside and published whole, so a kill while creating it leaves no half of it.
- It is refused on network file systems, where SQLite's locks do not hold.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from resurgam.catalog.moments import to_us
from resurgam.catalog.schema import STATE, STATE_ID, STATE_VERSION
from resurgam.catalog.sqlite import Database, Fault, fault_of
from resurgam.clock import Clock
from resurgam.durable import NETWORK_FILE_SYSTEMS, filesystem_type, rename_new, replace_file
from resurgam.errors import StateError

MARKER = ".resurgam-state"
_ELSEWHERE = "Set BACKUP_STATE_FILE to a file on a local disk that outlives the container."
# Closing any descriptor of a file drops SQLite's locks on it in the whole process (fcntl(2)), so no thread may be at
# work on the new file while another still tries to create it.
_CREATING = threading.Lock()


def open_state_file(path: Path, marker_folder: Path, clock: Clock) -> tuple[Database, tuple[str, ...]]:
    """The open database, created or migrated if need be, and what the user must be warned of. Raises StateError."""
    kind = filesystem_type(path)
    if kind in NETWORK_FILE_SYSTEMS:
        raise StateError(f"The state file {path} would lie on a network file system ({kind}).", _ELSEWHERE)
    marker = marker_folder / MARKER
    told = _read_marker(marker)
    with explained(path):
        with _CREATING:
            created = not os.path.lexists(path) and _create(path, clock)
        database = _open_file(path)
        with database.read() as connection:
            own_id = str(connection.execute("SELECT id FROM identity").fetchone()["id"])
    warnings = _lost(path, told) if created and told is not None else ()
    if told is None or (told.get("id"), told.get("path")) != (own_id, str(path)):
        warnings += _write_marker(marker, {"id": own_id, "path": str(path)})
    return database, warnings


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into a StateError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        fault = fault_of(error)
        if fault is Fault.CORRUPT:
            raise StateError(
                f"The state file {path} is damaged; it was left as it is, and the backups are not affected.",
                "It holds pins, history and the journals of restores: put a copy of it back, or, accepting their "
                "loss, move it aside, and a new one is made.",
            ) from error
        if fault is Fault.BUSY:
            raise StateError(f"The state file {path} stayed locked by another process.", "Try again.") from error
        raise StateError(
            f"The state file {path} can not be used: {error}.", "Check the disk's space and the file's owner."
        ) from error
    except OSError as error:
        raise StateError(f"The state file {path} can not be used: {error.strerror}.", _ELSEWHERE) from error


def _create(path: Path, clock: Clock) -> bool:
    """Make the file beside and publish it; False if another process was first."""
    partial = path.with_name(f".{path.name}.partial")
    fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return False
        # A kill may have left a beginning, and a lost file its log, which SQLite would apply to the new one.
        os.ftruncate(fd, 0)
        for name in (partial.name, path.name):
            for suffix in ("-journal", "-wal", "-shm"):
                path.with_name(name + suffix).unlink(missing_ok=True)
        # Without a write-ahead log: closed, this file is all there is of it.
        database = Database.open(partial, wal=False, synchronous="FULL")
        try:
            with database.write() as connection:
                for statement in STATE:
                    connection.execute(statement)
                row = (uuid.uuid4().hex, to_us(clock.now()))
                connection.execute("INSERT INTO identity (id, created_us) VALUES (?, ?)", row)
                connection.execute(f"PRAGMA application_id = {STATE_ID}")
                connection.execute(f"PRAGMA user_version = {STATE_VERSION}")
        finally:
            database.close()
        rename_new(partial, path)
    finally:
        os.close(fd)
    return True


def _open_file(path: Path) -> Database:
    if path.stat().st_size == 0:
        # SQLite would take it for a new database.
        raise StateError(
            f"The state file {path} is empty, so it is damaged; it was left as it is.",
            "Put a copy of it back, or, accepting the loss of pins and history, remove it, and a new one is made.",
        )
    database = Database.open(path, wal=True, synchronous="FULL")
    try:
        if database.pragma("application_id") != STATE_ID:
            raise StateError(f"{path} is not a state file of Resurgam; it was left as it is.", _ELSEWHERE)
        version = database.pragma("user_version")
        if version > STATE_VERSION:
            raise StateError(
                f"The state file {path} was written by a newer Resurgam; it was left as it is.",
                "Use that version, or a newer one.",
            )
        database.check()
        if version < STATE_VERSION:
            from resurgam.catalog.migrate import migrate

            migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _read_marker(marker: Path) -> dict[str, str] | None:
    """What the marker tells; an unreadable one still tells that there was a state."""
    try:
        told = json.loads(marker.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write_marker(marker: Path, told: Mapping[str, str]) -> tuple[str, ...]:
    try:
        replace_file(marker, json.dumps(told).encode() + b"\n")
    except OSError as error:
        return (f"{marker} could not be written ({error.strerror}): a loss of the state file would not be noticed.",)
    return ()


def _lost(path: Path, told: Mapping[str, str]) -> tuple[str, ...]:
    former = told.get("path")
    place = f"at {former}" if former and former != str(path) else "there"
    return (
        f"The state file {path} was missing, although one existed {place}. A new one was made: pins, the history of "
        "runs, and the journals of restores under way are lost. Backups are not affected. Pin again what must be "
        "kept, and look for databases and folders named *_previous_* if a restore was under way.",
    )

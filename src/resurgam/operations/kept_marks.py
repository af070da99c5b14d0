"""Did what a restore kept change since? Marks, made right after the swap, and compared before it is used or removed.

The steps `kept` of a journal hold them: for a database the server's counts of written rows (postgres/written.py), for
files and folders a digest of all names, sizes, modes, owners and modification times. A side without a mark (the restore
was interrupted between its commit and the mark, or the database let nobody in) can't be told from one that changed.

What a digest can't see: a file that was written and whose size and time were then set back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from blake3 import blake3

from resurgam.errors import DatabaseError
from resurgam.operations.kept import Side
from resurgam.operations.swap_paths import Kept
from resurgam.postgres.connection import Server
from resurgam.postgres.swap import database_oid, maintenance_server
from resurgam.postgres.written import WriteMark, what_changed, write_mark

UNKNOWN = "nobody can tell whether it changed, since no mark could be made of it at the swap"


def is_there(server: Server, side: Side) -> bool:
    """Whether it is still where it was kept. DatabaseError if the server must be asked and can't be."""
    if not side.is_database:
        return os.path.lexists(side.place)
    with closing(maintenance_server(server).connect()) as session:
        return database_oid(session, side.place) == side.oid


def changed_since(server: Server, side: Side) -> str:
    """A phrase on what became of a side since it was kept; "" if it did not change. For one that is there."""
    if side.mark is None:
        return UNKNOWN
    if not side.is_database:
        mark, _ = path_mark(Path(side.place))
        return "" if mark == side.mark["digest"] else "its files were changed"
    try:
        now, _ = write_mark(server, side.place)
    except DatabaseError as error:
        return f"nobody can tell whether it changed ({error.message})"
    return what_changed(WriteMark(**side.mark), now)


def mark_kept(
    server: Server, journal: Callable[[str, dict[str, Any]], None], database: str | None, paths: Iterable[Kept]
) -> None:
    """Note in the journal how everything that was kept looks now. Nothing that fails here fails the restore."""
    if database is not None:
        try:
            mark, size = write_mark(server, database)
            journal("kept", {"place": database, "size": size, "mark": mark.to_json()})
        except (DatabaseError, psycopg.Error):
            journal("kept", {"place": database})
    for kept in paths:
        if kept.previous is not None:
            place = os.fspath(kept.previous)
            try:
                digest, size = path_mark(kept.previous)
                journal("kept", {"place": place, "size": size, "mark": {"digest": digest}})
            except OSError:
                journal("kept", {"place": place})


def path_mark(path: Path) -> tuple[str, int]:
    """A digest of what is below `path` (its own times apart, if it is a folder), and the space it takes. OSError."""
    digest, size = blake3(), 0
    status = path.lstat()
    waiting: list[tuple[bytes, bytes]] = []
    if stat.S_ISDIR(status.st_mode):
        waiting.append((os.fsencode(path), b""))
    else:
        digest.update(_looks(b"", status))
        size += status.st_blocks * 512
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name, status = prefix + entry.name, entry.stat(follow_symlinks=False)
            digest.update(_looks(name, status))
            size += status.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                waiting.append((entry.path, name + b"/"))
    return digest.hexdigest(), size


def _looks(name: bytes, status: os.stat_result) -> bytes:
    fields = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_ino)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0  # a folder's depends on its file system
    return name + b"\0" + repr((*fields, size)).encode() + b"\0"

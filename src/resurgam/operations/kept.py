"""What restores and undos keep of what they replaced: where it is, how large, and whether it changed since.

The journal of a restore that is complete says it all. Its steps `kept` hold a mark of each side, made right after the
swap: for a database the server's counts of written rows (postgres/written.py), for files and folders a digest of all
names, sizes, modes, owners and modification times. A side without a mark (the restore was interrupted between its
commit and the mark, or the database let nobody in) can't be told from one that changed, and counts as such.

What a digest can't see: a file that was written and whose size and time were then set back.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from blake3 import blake3

from resurgam.catalog.state import Journal, State
from resurgam.errors import DatabaseError
from resurgam.operations.swap_paths import Kept, Step, replaced_of
from resurgam.postgres.connection import Server
from resurgam.postgres.swap import database_oid, maintenance_server
from resurgam.postgres.written import WriteMark, what_changed, write_mark

SWAP = "swap:"
UNKNOWN = "nobody can tell whether it changed, since no mark could be made of it at the swap"


@dataclass(frozen=True, slots=True)
class Side:
    """One thing that was kept. `oid`: of a database; None for a file or folder, whose `place` is its path.

    `size` in bytes; None where it is not known. `refused`: why it was not swept when that was due; `swept_at`: when it
    was, or was found to be gone.
    """

    restore_id: str
    place: str
    oid: int | None
    replaced_at: datetime
    size: int | None
    mark: dict[str, Any] | None
    refused: str = ""
    swept_at: datetime | None = None
    sweeping: bool = False

    @property
    def is_database(self) -> bool:
        return self.oid is not None

    def describe(self) -> str:
        """For messages."""
        return f"the database {self.place}" if self.is_database else self.place

    def until(self, keep: float | None) -> datetime | None:
        """When its time is over; None for never."""
        return None if keep is None else self.replaced_at + timedelta(seconds=keep)


def swap_steps(journal: Journal) -> list[Step]:
    """The steps that swapped files and folders."""
    return [(step.step.removeprefix(SWAP), step.data) for step in journal.steps if step.step.startswith(SWAP)]


def database_swap(journal: Journal) -> dict[str, Any] | None:
    """What the journal says of the database's swap; None if there was none."""
    return next((step.data for step in journal.steps if step.step == "database_swap"), None)


def is_ours(journal: Journal, folder: Path) -> bool:
    """Whether a run of this backup folder made it. A folder that is gone was moved or renamed: it is ours then."""
    theirs = journal.plan.get("folder")
    return theirs is None or theirs == os.path.realpath(folder) or not os.path.isdir(theirs)  # noqa: PTH112


def sides_of(journal: Journal) -> Iterator[Side]:
    """What a completed restore or undo kept. What a later undo brought back is not there any more: see `is_there`."""
    if journal.outcome != "completed" or journal.ended_at is None:
        return
    notes: dict[tuple[str, str], tuple[dict[str, Any], datetime]] = {}
    for step in journal.steps:
        if step.step in ("kept", "sweeping", "swept", "sweep_refused"):
            notes[step.step, step.data["place"]] = (step.data, step.at)

    def side(place: str, oid: int | None) -> Side:
        marked, refused, swept = (notes.get((what, place)) for what in ("kept", "sweep_refused", "swept"))
        assert journal.ended_at is not None
        return Side(
            restore_id=journal.restore_id,
            place=place,
            oid=oid,
            replaced_at=journal.ended_at,
            size=marked[0].get("size") if marked else None,
            mark=marked[0].get("mark") if marked else None,
            refused=refused[0]["reason"] if refused and not swept else "",
            swept_at=swept[1] if swept else None,
            sweeping=("sweeping", place) in notes,
        )

    swap = database_swap(journal)
    if swap is not None and swap.get("old_oid") is not None:
        yield side(swap["previous"], swap["old_oid"])
    for kept in replaced_of(swap_steps(journal)):
        if kept.previous is not None:
            yield side(os.fspath(kept.previous), None)


def kept_sides(state: State, folder: Path) -> tuple[Side, ...]:
    """All that this folder's restores keep, by their journals alone: what a user removed shows until the next sweep."""
    journals = [one for one in state.journals() if is_ours(one, folder) and one.outcome == "completed"]
    # What an undo brought back is live.
    undone = {one.plan.get("undoes") for one in journals}
    sides = (side for one in journals if one.restore_id not in undone for side in sides_of(one))
    return tuple(side for side in sides if side.swept_at is None)


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

"""Browse: what stands in one folder of a backup, by its index; a foreign archive is read from its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.errors import NotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Browsed(Protocol):
    """What browsing needs of an archive."""

    name: str

    def entries(self) -> Iterator[Entry]: ...


@dataclass(frozen=True, slots=True)
class Child:
    """What stands in a folder; `entry` is None for a folder that is only known by what is in it."""

    path: str
    entry: Entry | None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def to_json(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "path": self.path,
            "name": self.name,
            "kind": "folder" if entry is None else entry.kind.name.lower(),
            "size": 0 if entry is None else entry.size,
            "mtime": None if entry is None else _moment(entry.mtime_ns),
            "mode": None if entry is None else f"{entry.mode:04o}",
            "target": printable(entry.target) if entry is not None and entry.target else None,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Children by name; `following` is the last one's name where there are more."""

    children: tuple[Child, ...]
    following: str | None


def browse(archive: Browsed, path: str, limit: int, after: str | None) -> Page:
    """At most `limit` children of the folder `path` ("" is the top), of the names that follow `after`.

    NotFoundError if there is no such folder. Memory is bounded by the page, not by the folder.
    """
    folder = path.strip("/")
    prefix = f"{folder}/" if folder else ""
    found: dict[str, Entry | None] = {}
    seen = not folder
    for shown, entry in _within(archive.entries(), prefix, folder):
        seen = True
        name, _, deeper = shown.removeprefix(prefix).partition("/")
        if not name or (after is not None and name <= after):
            continue
        if not deeper:
            found[name] = entry
        else:
            found.setdefault(name, None)
        if len(found) > 4 * limit + 1000:
            found = dict(sorted(found.items())[: limit + 1])
    if not seen:
        raise NotFoundError(f"The backup {archive.name} has no folder of that path.", "Begin at its top, without one.")
    names = sorted(found)
    children = tuple(Child(prefix + name, found[name]) for name in names[:limit])
    return Page(children, names[limit - 1] if len(names) > limit else None)


def _within(entries: Iterable[Entry], prefix: str, folder: str) -> Iterable[tuple[str, Entry]]:
    """The entries below the folder, and the folder itself with its prefix alone; paths as they are shown."""
    # Most paths need not be made printable to see that they stand elsewhere.
    plain = prefix.encode() if prefix.isascii() and prefix.isprintable() and "\\" not in prefix else None
    for entry in entries:
        if plain is not None and not entry.path.startswith(plain):
            if entry.kind is Kind.FOLDER and entry.path == plain[:-1]:
                yield prefix, entry
            continue
        shown = printable(entry.path)
        if shown.startswith(prefix):
            yield shown, entry
        elif shown == folder and entry.kind is Kind.FOLDER:
            yield prefix, entry


def _moment(mtime_ns: int) -> str | None:
    try:
        return (_EPOCH + timedelta(microseconds=mtime_ns // 1000)).isoformat()
    except OverflowError:  # a tar header may say anything
        return None

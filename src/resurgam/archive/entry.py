"""The values that travel between sources, archives and restores.

A path is raw bytes, relative to the backup's top folder, with `/` between its parts, as the file system gave
it: UTF-8 is usual, anything but NUL is possible. `name_text` is the one way to turn it into text.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What an entry is; the values are the tar type flags of POSIX.1-2001 (pax), table 4-17."""

    FILE = b"0"
    HARDLINK = b"1"
    SYMLINK = b"2"
    FOLDER = b"5"


class Entry(NamedTuple):
    """One file, folder or link of a backup: a tuple, because millions of them are made.

    `size` is in bytes and 0 for anything but a file; `mtime_ns` counts nanoseconds from 1970 in UTC; `target`
    is a symlink's text as read, or a hard link's earlier path in this backup; `sparse` says that the file had
    holes, which a restore makes again (the stream itself holds their zeros, so that any tar can read it).
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    mtime_ns: int = 0
    size: int = 0
    target: bytes = b""
    sparse: bool = False


class Identity(NamedTuple):
    """What tells that a file is the one that was read before, beside what its entry says."""

    ctime_ns: int
    inode: int


class Offer(NamedTuple):
    """A file, folder or link that need not be read where it is known already.

    `read` answers the entry as it is when it is read, and its bytes, or None if it is gone; once these were used,
    `changed` says whether it was altered meanwhile, and has to be asked.
    """

    entry: Entry
    identity: Identity
    read: Callable[[], tuple[Entry, Iterable[bytes]] | None]
    changed: Callable[[], bool]


def name_text(path: bytes) -> str:
    """The path as text; bytes that are not UTF-8 become lone surrogates, and come back by os.fsencode."""
    return os.fsdecode(path)


def printable(path: bytes) -> str:
    """The path for messages and JSON: bytes that are not UTF-8 and control characters as \\xNN."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

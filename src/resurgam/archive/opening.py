"""Finds out what a file is, and opens it: an archive of ours, a foreign one, or something to refuse."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

from resurgam.archive.entry import Entry
from resurgam.archive.footer import MARK_READ, is_marked
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.reader import NativeArchive
from resurgam.errors import DamagedError, NotFoundError, StorageError

SUFFIX = ".tar.gz"


class Archive(Protocol):
    """What operations need of an archive, ours or foreign."""

    name: str
    path: Path
    size: int

    @property
    def foreign(self) -> bool: ...
    def metadata(self) -> dict[str, Any]: ...
    def entries(self) -> Iterator[Entry]: ...
    def contents(self, wanted: Callable[[Entry], bool]) -> Iterator[tuple[Entry, Iterator[bytes]]]: ...
    def walk(self) -> Iterator[tuple[Entry, Iterator[bytes]]]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: Any) -> None: ...


def open_archive(path: Path) -> NativeArchive | ForeignArchive:
    """Open the archive of the backup that the file is named after.

    NotFoundError if it is not there; DamagedError if it is empty, no gzip, or ours without a sound footer;
    StorageError if it can't be read.
    """
    name = path.name.removesuffix(SUFFIX)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"There is no archive {path}.", "`resurgam list` shows the backups there are.") from None
    except OSError as error:
        raise StorageError(f"{path} can not be read ({error.strerror}).", "Check its owner and mode.") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise DamagedError(f"{path.name} is not a regular file.")
        head = os.pread(fd, MARK_READ, 0)
    finally:
        os.close(fd)
    if not head:
        raise DamagedError(f"{path.name} is empty.")
    if is_marked(head):
        return NativeArchive(path, name)
    if head[:3] != b"\x1f\x8b\x08":
        raise DamagedError(f"{path.name} is not a gzip file.")
    return ForeignArchive(path, name)

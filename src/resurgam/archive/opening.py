"""Finds out what a file is, and opens it: an archive of ours, a foreign one, or something to refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

from resurgam.archive.age_file import AgeFile
from resurgam.archive.entry import Entry
from resurgam.archive.footer import MARK_READ, marked_version, require_known
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.gpg import GpgFile
from resurgam.archive.reader import NativeArchive
from resurgam.archive.sealing import NO_KEYS, ArchiveKeys
from resurgam.archive.stored import ArchiveFile, StoredFile
from resurgam.errors import DamagedError

SUFFIX = ".tar.gz"
SEALED = {"age": f"{SUFFIX}.age", "gpg": f"{SUFFIX}.gpg"}


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


def open_archive(path: Path, keys: ArchiveKeys = NO_KEYS) -> NativeArchive | ForeignArchive:
    """Open the archive of the backup that the file is named after, by `keys` if it is encrypted.

    NotFoundError if it is not there; DamagedError if it is empty, no gzip, or ours without a sound footer;
    ArchiveError if a later version of Resurgam wrote it; StorageError if it can't be read; KeyRefused if `keys` do not
    open it.
    """
    stored = StoredFile(path)
    file: ArchiveFile = stored
    try:
        if path.name.endswith(SEALED["age"]):
            file = AgeFile(stored, keys)
        elif path.name.endswith(SEALED["gpg"]):
            file = GpgFile(stored, keys)
        return _recognised(file, backup_name(path))
    except BaseException:
        file.close()
        raise


def backup_name(path: Path) -> str:
    """The name of the backup that the file is named after."""
    for suffix in SEALED.values():
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.name.removesuffix(SUFFIX)


def _recognised(file: ArchiveFile, name: str) -> NativeArchive | ForeignArchive:
    head = file.read(0, MARK_READ)
    if not head:
        raise DamagedError(f"{file.path.name} is empty.")
    if name in ("", ".", ".."):
        raise DamagedError(f"{file.path.name} is not the name of a backup.", f"Name it after its top folder, {SUFFIX}.")
    version = marked_version(head)
    if version is not None:
        require_known(version)
        return NativeArchive(file, name)
    if head[:3] != b"\x1f\x8b\x08":
        raise DamagedError(f"{file.path.name} is not a gzip file.")
    return ForeignArchive(file, name)

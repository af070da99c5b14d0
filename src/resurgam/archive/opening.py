"""Finds out what a file is, and opens it: an archive of ours, a foreign one, or something to refuse.

Operations read backups by what is declared here, wherever these lie.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Protocol, Self

from resurgam.archive.entry import Entry
from resurgam.archive.footer import MARK_READ, marked_version, require_known
from resurgam.archive.foreign import ForeignArchive
from resurgam.archive.index import IndexedEntry
from resurgam.archive.reader import NativeArchive
from resurgam.archive.sealing import NO_KEYS, ArchiveKeys
from resurgam.archive.stored import ArchiveFile, StoredFile
from resurgam.errors import DamagedError
from resurgam.stores.listing import SUFFIX, split_name


class IndexedArchive(Protocol):
    """A backup with an index, by which any part of it is read without the rest: an archive of ours, or a repository's.

    Every byte that comes out was checked. `place` is where it lies, as results show it; `size` in bytes.
    """

    name: str
    place: str
    size: int

    @property
    def foreign(self) -> bool: ...
    @property
    def digest(self) -> str:
        """In hexadecimal; stands for the whole content."""

    def metadata(self) -> dict[str, Any]:
        """The content of backup_metadata.json, which must be this backup's."""

    def entries(self) -> Iterator[Entry]:
        """Every entry below the top folder, names checked; no content is read."""

    def contents(self, wanted: Callable[[Entry], bool]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """The wanted entries in the stream's order with their bytes; only these are read."""

    def walk(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Everything, the tar stream parsed by itself and equal to the index."""

    def find(self, path: bytes) -> IndexedEntry | None:
        """The entry of that path, and where its content begins in the tar stream."""

    def read(self, offset: int, length: int) -> Generator[bytes, None, None]:
        """Bytes of the tar stream; several threads may read at the same time."""

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *details: Any) -> None: ...


Archive = IndexedArchive | ForeignArchive


def open_archive(path: Path, keys: ArchiveKeys = NO_KEYS) -> NativeArchive | ForeignArchive:
    """Open the archive of the backup that the file is named after, by `keys` if it is encrypted.

    NotFoundError if it is not there; DamagedError if it is empty, no gzip, or ours without a sound footer;
    ArchiveError if a later version of Resurgam wrote it; StorageError if it can't be read; KeyRefused if `keys` do not
    open it.
    """
    file = open_file(path, keys)
    try:
        return _recognised(file, split_name(path.name)[0])
    except BaseException:
        file.close()
        raise


def open_file(path: Path, keys: ArchiveKeys = NO_KEYS) -> ArchiveFile:
    """An archive's plain bytes, decrypted by `keys` where it is encrypted; whatever they are. Raises as `open_archive`
    does."""
    form = split_name(path.name)[1]
    stored = StoredFile(path)
    try:
        # What encryption needs is slow to import, and most commands meet plain archives alone.
        if form == "age":
            from resurgam.archive.age_file import AgeFile

            return AgeFile(stored, keys)
        if form == "gpg":
            from resurgam.archive.gpg import GpgFile

            return GpgFile(stored, keys)
        return stored
    except BaseException:
        stored.close()
        raise


def opens_at_once(path: Path, keys: ArchiveKeys) -> bool:
    """Whether opening it costs no more than opening a plain archive, rather than a passphrase's second or a reading of
    the whole file (sentence 39). Raises as `open_archive` does.
    """
    form = split_name(path.name)[1]
    if form != "age":
        return form == ""
    from resurgam.archive.age_file import read_header

    stored = StoredFile(path)
    try:
        header = read_header(stored)
        return header.mac in keys.known or (keys.has_identities and not header.asks_passphrase)
    finally:
        stored.close()


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

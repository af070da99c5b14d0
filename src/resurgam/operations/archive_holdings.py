"""Backups as archives in BACKUP_DIR (docs/ordering.md, sentences 5 to 10)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from resurgam.archive.opening import Archive, open_archive
from resurgam.catalog.catalog import Description
from resurgam.errors import NotFoundError, StorageError
from resurgam.operations.holdings import Collected, Draft, Held, NewBackup, Verified, described
from resurgam.operations.progress import Progress
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import SUFFIX, FoundArchive

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveHoldings:
    """The folder's archives (`Holdings`)."""

    folder: BackupFolder
    location = "local"
    troubles: tuple[str, ...] = ()

    def found(self) -> list[FoundArchive]:
        return self.folder.archives()

    def ever(self) -> int:
        return 0

    def changed_at(self) -> int:
        try:
            return self.folder.path.stat().st_mtime_ns
        except OSError:
            return -2  # what is wrong with it, `found` says

    def has(self, name: str) -> bool:
        return self.file_of(name).exists()

    def describe(self, name: str) -> Description:
        return described(lambda: self.open(name))

    def open(self, name: str) -> Archive:
        return open_archive(self.file_of(name))

    def lacking(self, name: str) -> int:
        return 0

    def verify_all(self, progress: Progress, now: datetime, *, full: bool) -> Verified | None:
        return None

    def place_of(self, name: str) -> str:
        # As text, without the Path in between that costs more than all else in a list of thousands.
        return f"{self.folder.path}/{name}{SUFFIX}"

    def file_of(self, name: str) -> Path:
        return self.folder.archive_path(name)

    def stream(self, name: str) -> Iterator[bytes]:
        return file_blocks(self.file_of(name))

    @contextmanager
    def writing(self, new: NewBackup) -> Iterator[Draft]:
        from resurgam.archive.writer import ArchiveWriter  # not needed by whoever lists

        with (
            self.folder.create(new.name) as partial,
            ArchiveWriter(partial.fd, new.name, mtime_ns=new.mtime_ns) as writer,
        ):

            def commit(metadata: bytes) -> Held:
                size = writer.finish(metadata, new.mtime_ns)
                stored_at = os.fstat(partial.fd).st_mtime
                partial.publish()
                return Held(size, stored_at)

            yield Draft(writer, commit)

    def delete(self, name: str) -> int:
        return self.folder.delete(name)

    def foresee(self, doomed: Iterable[str], progress: Progress, *, accept: bool, refuse: bool) -> Collected | None:
        return None

    def collect(self, progress: Progress, *, accept: bool, checked: bool) -> Collected | None:
        return None

    def time(self) -> float:
        return self.folder.time()


def file_blocks(path: Path) -> Iterator[bytes]:
    """An archive's bytes. NotFoundError if it is gone, StorageError if it can't be read."""
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except FileNotFoundError:
        raise NotFoundError(f"The archive {path} is gone.") from None
    except OSError as error:
        raise StorageError(f"The archive {path} can not be read ({error.strerror}).") from None

"""Backups as archives in BACKUP_DIR (docs/ordering.md, sentences 5 to 10)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resurgam.archive.opening import Archive, open_archive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.catalog.catalog import Description
from resurgam.operations.holdings import Draft, Held, described
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import SUFFIX, FoundArchive


@dataclass(frozen=True, slots=True)
class ArchiveHoldings:
    """The folder's archives (`Holdings`)."""

    folder: BackupFolder
    location = "local"

    def found(self) -> list[FoundArchive]:
        return self.folder.archives()

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

    def place_of(self, name: str) -> str:
        # As text, without the Path in between that costs more than all else in a list of thousands.
        return f"{self.folder.path}/{name}{SUFFIX}"

    def file_of(self, name: str) -> Path:
        return self.folder.archive_path(name)

    @contextmanager
    def writing(self, name: str, mtime_ns: int) -> Iterator[Draft]:
        with (
            self.folder.create(name) as partial,
            ArchiveWriter(PlainSink(partial.fd), name, mtime_ns=mtime_ns) as writer,
        ):

            def commit(metadata: bytes) -> Held:
                size = writer.finish(metadata, mtime_ns)
                stored_at = os.fstat(partial.fd).st_mtime
                partial.publish()
                return Held(size, stored_at)

            yield Draft(writer, commit)

    def delete(self, name: str) -> int:
        return self.folder.delete(name)

    def time(self) -> float:
        return self.folder.time()

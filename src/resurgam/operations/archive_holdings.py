"""Backups as archives in BACKUP_DIR (docs/ordering.md, sentences 5 to 10)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resurgam.archive.opening import Archive, open_archive, opens_at_once
from resurgam.archive.sealing import NO_KEYS, ArchiveKeys, Sealing
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter, Sink
from resurgam.catalog.catalog import Description
from resurgam.errors import NotFoundError, ResurgamError, StorageError
from resurgam.operations.holdings import Draft, Held, described
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import FoundArchive

SEALED = "It is encrypted, and was not opened yet: `resurgam verify` opens and checks it."


@dataclass(frozen=True, slots=True)
class ArchiveHoldings:
    """The folder's archives (`Holdings`); new ones are encrypted where there is a `sealing`."""

    folder: BackupFolder
    keys: ArchiveKeys = NO_KEYS
    sealing: Sealing | None = None
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
        return describe_file(self.file_of(name), self.keys)

    def open(self, name: str) -> Archive:
        return open_archive(self.file_of(name), self.keys)

    def place_of(self, name: str) -> str:
        return str(self.file_of(name))

    def file_of(self, name: str) -> Path:
        return self.folder.archive_path(name)

    @contextmanager
    def writing(self, name: str, mtime_ns: int) -> Iterator[Draft]:
        form = self.sealing.kind if self.sealing is not None else ""
        with (
            self.folder.create(name, form) as partial,
            ArchiveWriter(self._sink(partial.fd), name, mtime_ns=mtime_ns) as writer,
        ):

            def commit(metadata: bytes) -> Held:
                size = writer.finish(metadata, mtime_ns)
                stored_at = os.fstat(partial.fd).st_mtime
                partial.publish()
                return Held(size, stored_at)

            yield Draft(writer, commit)

    def _sink(self, fd: int) -> Sink:
        if self.sealing is None:
            return PlainSink(fd)
        from resurgam.archive.encrypted import encrypting_sink

        return encrypting_sink(fd, self.sealing, self.folder.path)

    def delete(self, name: str) -> int:
        return self.folder.delete(name)

    def time(self) -> float:
        return self.folder.time()


def describe_file(path: Path, keys: ArchiveKeys) -> Description:
    """What an archive says of itself; one that can't be opened at once is left sealed (archive-format.md, 39)."""
    try:
        if not opens_at_once(path, keys):
            return Description("sealed", SEALED)
    except NotFoundError as error:
        raise FileNotFoundError(error.message) from None
    except ResurgamError as error:
        return Description("damaged", error.message, lasting=not isinstance(error, StorageError))
    return described(lambda: open_archive(path, keys))

"""Backups as archives in BACKUP_DIR (docs/ordering.md, sentences 5 to 10)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resurgam.archive.opening import Archive, open_archive, open_file, opens_at_once
from resurgam.archive.sealing import NO_KEYS, ArchiveKeys, Sealing
from resurgam.catalog.catalog import Description
from resurgam.errors import KeyRefused, NotFoundError, ResurgamError, StorageError
from resurgam.operations.holdings import Collected, Draft, Held, NewBackup, Verified, delete_each, described
from resurgam.operations.progress import Progress
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import FoundArchive

if TYPE_CHECKING:
    from resurgam.archive.writer import Sink

SEALED = "It is encrypted, and was not opened yet: `resurgam verify` opens and checks it."

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class ArchiveHoldings:
    """The folder's archives (`Holdings`); new ones are encrypted where there is a `sealing`."""

    folder: BackupFolder
    keys: ArchiveKeys = NO_KEYS
    sealing: Sealing | None = None
    location = "local"
    troubles: tuple[str, ...] = ()

    def found(self) -> list[FoundArchive]:
        return self.folder.archives()

    def require_readable(self) -> None:
        pass

    def ever(self) -> int:
        return 0

    def changed_at(self) -> int:
        try:
            return self.folder.path.stat().st_mtime_ns
        except OSError:
            return -2  # what is wrong with it, `found` says

    def has(self, name: str) -> bool:
        return self.file_of(name).exists()

    def reserving(self, name: str) -> AbstractContextManager[bool]:
        return nullcontext(True)  # the folder's lock keeps all others out

    def series_of(self, name: str) -> str:
        return ""

    def describe(self, name: str) -> Description:
        return describe_file(self.file_of(name), self.keys)

    def open(self, name: str) -> Archive:
        return open_archive(self.file_of(name), self.keys)

    def lacking(self, name: str) -> int:
        return 0

    def verify_all(self, progress: Progress, now: datetime, *, full: bool) -> Verified | None:
        return None

    def note_damage(self, name: str) -> None:
        """Nobody refers to an archive's bytes."""

    def place_of(self, name: str) -> str:
        return str(self.file_of(name))

    def file_of(self, name: str) -> Path:
        return self.folder.archive_path(name)

    def stream(self, name: str) -> Iterator[bytes]:
        return plain_blocks(self.file_of(name), self.keys)

    @contextmanager
    def writing(self, new: NewBackup) -> Iterator[Draft]:
        from resurgam.archive.writer import ArchiveWriter  # not needed by whoever lists

        form = self.sealing.kind if self.sealing is not None else ""
        with (
            self.folder.create(new.name, form) as partial,
            ArchiveWriter(self._sink(partial.fd), new.name, mtime_ns=new.mtime_ns) as writer,
        ):

            def commit(metadata: bytes) -> Held:
                size = writer.finish(metadata, new.mtime_ns)
                stored_at = os.fstat(partial.fd).st_mtime
                partial.publish()
                return Held(size, stored_at)

            yield Draft(writer, commit)

    def _sink(self, fd: int) -> Sink:
        if self.sealing is None:
            from resurgam.archive.sinks import PlainSink

            return PlainSink(fd)
        from resurgam.archive.encrypted import encrypting_sink

        return encrypting_sink(fd, self.sealing, self.folder.path)

    def delete(self, name: str) -> int:
        return self.folder.delete(name)

    def delete_all(self, names: Sequence[str]) -> dict[str, str]:
        return delete_each(self.delete, names)

    def foresee(self, doomed: Iterable[str], progress: Progress, *, accept: bool, refuse: bool) -> Collected | None:
        return None

    def collect(self, progress: Progress, *, accept: bool, checked: bool) -> Collected | None:
        return None

    def time(self) -> float:
        return self.folder.time()


def plain_blocks(path: Path, keys: ArchiveKeys) -> Iterator[bytes]:
    """An archive's bytes, decrypted by `keys` where it is encrypted. Raises as `open_archive` does."""
    file = open_file(path, keys)
    try:
        offset = 0
        while block := file.read(offset, _BLOCK):
            yield block
            offset += len(block)
    finally:
        file.close()


def describe_file(path: Path, keys: ArchiveKeys) -> Description:
    """What an archive says of itself; one that can't be opened at once is left sealed (archive-format.md, 39)."""
    try:
        if not opens_at_once(path, keys):
            return Description("sealed", SEALED)
    except NotFoundError as error:
        raise FileNotFoundError(error.message) from None
    except ResurgamError as error:
        return Description("damaged", error.message, lasting=not isinstance(error, StorageError))

    def opening() -> Archive:
        return open_archive(path, keys)

    try:
        return described(opening)
    except KeyRefused as error:
        return Description("sealed", error.message)

"""Where a plain archive's bytes go, checked on the disk before they count as stored (docs/ordering.md, sentence 7)."""

from __future__ import annotations

import os

from blake3 import blake3

from resurgam.archive.readback import ReadBack, Span
from resurgam.durable import write_all
from resurgam.errors import StorageError


class PlainSink:
    """An open file that holds the archive itself (`Sink`)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._readback = ReadBack(fd)
        self._at = 0
        self._reserved: tuple[int, int] | None = None

    def write(self, data: bytes, digest: bytes) -> None:
        offset = self._at
        self._append(data)
        self._readback.add(Span(offset, len(data), digest))

    def reserve(self, length: int) -> None:
        self._reserved = self._at, length
        self._append(bytes(length))

    def fill(self, data: bytes) -> None:
        assert self._reserved is not None and self._reserved[1] == len(data)
        offset, self._reserved = self._reserved[0], None
        span = Span(offset, len(data), blake3(data).digest())
        try:
            while data:
                written = os.pwrite(self._fd, data, offset)
                data, offset = data[written:], offset + written
        except OSError as error:
            raise _write_failed(error) from error
        self._readback.add(span)

    def finish(self) -> int:
        sync(self._fd)
        self._readback.finish()
        return self._at

    def close(self) -> None:
        self._readback.close()

    def _append(self, data: bytes) -> None:
        write(self._fd, data)
        self._at += len(data)


def write(fd: int, data: bytes) -> None:
    """Append all of it. StorageError if the disk does not take it."""
    try:
        write_all(fd, data)
    except OSError as error:
        raise _write_failed(error) from error


def sync(fd: int) -> None:
    """Get what was written to the disk. StorageError if it is not there."""
    try:
        os.fsync(fd)
    except OSError as error:
        raise _write_failed(error) from error


def _write_failed(error: OSError) -> StorageError:
    return StorageError(
        f"Writing the archive failed ({error.strerror}); the partial file is removed, earlier backups are untouched.",
        "Free space in BACKUP_DIR, or lower MAX_BACKUPS or BACKUP_RETENTION_DAYS and run `resurgam prune`.",
    )

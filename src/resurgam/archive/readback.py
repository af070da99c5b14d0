"""Reads stored bytes back from the disk and compares them with what was written, while more is being written.

A finished stretch of the file is pushed to the disk, dropped from the cache, and read again: what is compared
comes from the disk. What the system can't push early (no sync_file_range) is read back at the end, after the
writer's fsync. Either way nothing is published before every byte was read (docs/ordering.md, sentence 7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from blake3 import blake3

from resurgam.durable import UNSUPPORTED
from resurgam.errors import DamagedError, ResurgamError, StorageError

_STRETCH = 32 << 20
_READ = 4 << 20
# SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER of <linux/fs.h>.
_PUSH_AND_WAIT = 7
_sync_file_range = (
    getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None) if sys.platform == "linux" else None
)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of the file that must read back with this BLAKE3 digest: theirs, or that of what they stand for."""

    offset: int
    length: int
    digest: bytes


class ReadBack:
    """Collects spans in the order of writing; its thread checks full stretches, `finish` the rest."""

    def __init__(self, fd: int, meaning: Callable[[int, bytes], bytes] | None = None) -> None:
        """`meaning` gives what stored bytes at an offset stand for, where digests are of that; DamagedError if they
        stand for nothing. Such spans are short: each is held in memory."""
        self._fd = fd
        self._meaning = meaning
        self._stretch: list[Span] = []
        self._size = 0
        self._unchecked: list[Span] = []
        self._queue: SimpleQueue[list[Span] | None] = SimpleQueue()
        self._error: ResurgamError | None = None
        self._thread = threading.Thread(target=self._run, name="resurgam-readback", daemon=True)

    def add(self, span: Span) -> None:
        """Take a span that was written and will not change any more."""
        self._stretch.append(span)
        self._size += span.length
        if self._size >= _STRETCH:
            if self._thread.ident is None:
                self._thread.start()
            self._queue.put(self._stretch)
            self._stretch, self._size = [], 0

    def finish(self) -> None:
        """Check what is left; the caller has synced the file. StorageError if the disk gave back anything else."""
        self.close()
        if self._error is not None:
            raise self._error
        self._drop(0, 0)
        while not self._queue.empty():  # the thread ended before its work did
            self._unchecked += self._queue.get() or ()
        self._check([*self._unchecked, *self._stretch])

    def close(self) -> None:
        """End the thread; what it has not checked stays unchecked."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while (stretch := self._queue.get()) is not None and self._error is None:
            # Whatever ends this thread, `finish` looks at what was not found good.
            before = len(self._unchecked)
            self._unchecked += stretch
            try:
                if self._push(stretch):
                    self._check(stretch)
                    del self._unchecked[before:]
            except ResurgamError as error:
                self._error = error

    def _push(self, stretch: Sequence[Span]) -> bool:
        """Get a stretch to the disk and out of the cache; False if the system can't, or not yet."""
        if _sync_file_range is None:
            return False
        # Not in the file's order: a late header's span comes after its content's.
        start, end = min(span.offset for span in stretch), max(span.offset + span.length for span in stretch)
        if _sync_file_range(self._fd, ctypes.c_int64(start), ctypes.c_int64(end - start), _PUSH_AND_WAIT) != 0:
            code = ctypes.get_errno()
            if code in UNSUPPORTED or code == errno.ESPIPE:
                return False
            # The kernel tells a failed write once for each descriptor, so the fsync to come would say nothing.
            raise StorageError(f"Writing the archive failed ({os.strerror(code)}); the partial file is removed.")
        self._drop(start, end - start)
        return True

    def _drop(self, offset: int, length: int) -> None:
        """Forget cached pages; a length of 0 means to the file's end."""
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(OSError):  # advice: a file system may not take it
                os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_DONTNEED)

    def _check(self, spans: Sequence[Span]) -> None:
        for span in spans:
            if self._digest(span) != span.digest:
                raise StorageError(
                    "The disk gave back other bytes than were written; the backup was not kept.",
                    "Check the disk that BACKUP_DIR is on (dmesg, smartctl) before the next backup.",
                )

    def _digest(self, span: Span) -> bytes | None:
        """Of what the span stands for; None if that is nothing."""
        if self._meaning is not None:
            try:
                return blake3(self._meaning(span.offset, b"".join(self._stored(span)))).digest()
            except DamagedError:
                return None
        hasher = blake3()
        for data in self._stored(span):
            hasher.update(data)
        return hasher.digest()

    def _stored(self, span: Span) -> Iterator[bytes]:
        """What the file holds there. StorageError if it can't be read or is too short."""
        offset, length = span.offset, span.length
        while length > 0:
            try:
                data = os.pread(self._fd, min(length, _READ), offset)
            except OSError as error:
                raise StorageError(f"The archive could not be read back ({error.strerror}).") from error
            if not data:
                raise StorageError("The archive's file is shorter than what was written to it.")
            yield data
            offset += len(data)
            length -= len(data)

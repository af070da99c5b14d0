"""Reads an archive in the manual's layout that any tar program made: one gzip stream, no index.

Everything works on it that works on ours, slower: each question reads the stream from its beginning. It has no
digests, so it is believed only where gzip's checksums, tar's end blocks and the manual's layout agree.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.footer import MAX_METADATA, METADATA_NAME
from resurgam.archive.reader import parse_metadata
from resurgam.archive.stored import ArchiveFile
from resurgam.archive.tarstream import walk_tar
from resurgam.errors import DamagedError, HostileError
from resurgam.pipeline.codec import InflateError, stream_members

_READ = 1 << 20
# Deflate reaches 1,032:1 on constant bytes and nothing else. Text and dumps stay far under a hundred.
_MAX_RATIO = 250
_RATIO_FROM = 256 << 20


class ForeignArchive:
    """One foreign archive, open for reading."""

    foreign = True

    def __init__(self, file: ArchiveFile, name: str) -> None:
        self.place, self.name, self.size = str(file.path), name, file.size
        self._file = file

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metadata(self) -> dict[str, Any]:
        """The content of backup_metadata.json; reads the stream up to it. DamagedError if there is none."""
        for entry, blocks in self.walk():
            if entry.path == METADATA_NAME and entry.kind is Kind.FILE:
                if entry.size > MAX_METADATA:
                    raise HostileError("The archive's backup_metadata.json is impossibly long.")
                return parse_metadata(b"".join(blocks), self.name)
        raise DamagedError("The archive holds no backup_metadata.json: it is not a backup in the manual's layout.")

    def entries(self) -> Iterator[Entry]:
        for entry, _ in self.walk():
            yield entry

    def contents(self, wanted: Callable[[Entry], bool]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """The wanted entries with their bytes. The whole stream is read, so its end is checked as well."""
        for entry, blocks in self.walk():
            if wanted(entry):
                yield entry, blocks

    def walk(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Every entry below the top folder, with its bytes, through gzip's checksums to tar's end blocks."""
        try:
            for member, blocks in walk_tar(self._plain(), os.fsencode(self.name)):
                if member.entry.path:
                    yield member.entry, blocks
        except InflateError as error:
            raise DamagedError(f"The archive's compressed data are damaged ({error}).") from None

    def _plain(self) -> Iterator[bytes]:
        consumed = size = 0

        def blocks() -> Iterator[bytes]:
            nonlocal consumed
            while block := self._file.read(consumed, _READ):
                consumed += len(block)
                yield block

        for piece in stream_members(blocks()):
            size += len(piece)
            if size > _RATIO_FROM and size > _MAX_RATIO * consumed:
                raise HostileError(
                    f"The archive grows more than {_MAX_RATIO}-fold when it is unpacked: a decompression bomb.",
                    "If you trust it, unpack it with tar where there is enough space, and restore by hand.",
                )
            yield piece

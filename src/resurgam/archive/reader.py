"""Reads an archive that bears our mark; every byte of it is untrusted until its digest was checked."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from functools import cached_property
from itertools import accumulate
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from resurgam.archive.footer import LENGTH, Footer
from resurgam.archive.headers import padding
from resurgam.archive.index import DIGEST, Index
from resurgam.archive.indexed import IndexedBackup
from resurgam.archive.stored import ArchiveFile
from resurgam.errors import DamagedError
from resurgam.pipeline.codec import InflateError, open_member, stored_check, stream_members


class NativeArchive(IndexedBackup):
    """One archive of ours, open for reading. DamagedError as soon as something does not fit."""

    def __init__(self, file: ArchiveFile, name: str) -> None:
        super().__init__(name)
        self.place, self.size = str(file.path), file.size
        self._file = file
        tail = file.read(max(0, self.size - LENGTH), LENGTH)
        self._footer = Footer.decode(tail, self.size)

    @property
    def digest(self) -> str:
        """BLAKE3 of the index, in hexadecimal: every entry's digest is in it, so it stands for the whole backup."""
        return self._footer.index_digest.hex()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metadata(self) -> dict[str, Any]:
        """The content of backup_metadata.json, which must be this backup's; two small reads of the file."""
        footer = self._footer
        stored = self._checked(footer.metadata_offset, footer.metadata_stored, footer.metadata_digest, "metadata")
        padded = footer.metadata_length + padding(footer.metadata_length)
        return parse_metadata(_inflate(stored, padded)[: footer.metadata_length], self.name)

    @cached_property
    def index(self) -> Index:
        """The index, checked against its digest, its own counts, and the file's ranges."""
        footer = self._footer
        stored = self._checked(footer.index_offset, footer.index_stored, footer.index_digest, "index")
        index = Index.decode(_inflate(stored, footer.index_plain))
        if index.backup_name != self.name:
            raise DamagedError(f"The archive is of the backup {index.backup_name!r}; it was renamed.")
        if sum(index.chunk_stored) != footer.index_offset or sum(index.chunk_lengths) != footer.stream:
            raise DamagedError("The archive's index does not fit the file.")
        return index

    @property
    def stream(self) -> int:
        return self._footer.stream

    @cached_property
    def metadata_place(self) -> tuple[int, int]:
        """By the footer, whose stored range must be chunks: an offset that is no chunk's start gives (-1, -1)."""
        footer, length = self._footer, self._footer.metadata_length
        first = bisect_left(self._stored_starts, footer.metadata_offset)
        last = bisect_left(self._stored_starts, footer.metadata_offset + footer.metadata_stored)
        ends = (self._stored_starts[first], self._stored_starts[last])
        offset = self._chunk_starts[first]
        whole = self._chunk_starts[last] - offset == length + padding(length)
        if ends != (footer.metadata_offset, footer.metadata_offset + footer.metadata_stored) or not whole:
            return -1, -1
        return offset, length

    @cached_property
    def _stored_starts(self) -> array[int]:
        return array("Q", accumulate(self.index.chunk_stored, initial=0))

    def open_chunks(self, first: int, last: int) -> list[bytes]:
        index, position = self.index, 0
        offset = self._stored_starts[first]
        stored = memoryview(self._file.read(offset, self._stored_starts[last] - offset))
        chunks = []
        for i in range(first, last):
            member = stored[position : position + index.chunk_stored[i]]
            if stored_check(member) != index.chunk_checks[i]:
                raise _changed(offset + position)
            data = open_member(member, index.chunk_lengths[i])
            if blake3(data).digest(DIGEST) != index.chunk_digest(i):
                raise _changed(offset + position)
            position += len(member)
            chunks.append(data)
        return chunks

    def _checked(self, offset: int, length: int, digest: bytes, what: str) -> bytes:
        stored = self._file.read(offset, length)
        if len(stored) != length or blake3(stored).digest() != digest:
            raise DamagedError(f"The archive's {what} is damaged.", "Take another backup or its copy elsewhere.")
        return stored


def _changed(offset: int) -> DamagedError:
    return DamagedError(
        f"The archive was changed or damaged in the block at byte {offset:,}.",
        "Take another backup, or the copy of this one in the remote folder.",
    )


def parse_metadata(raw: bytes, name: str) -> dict[str, Any]:
    """backup_metadata.json as an object that names this backup. DamagedError if it is anything else."""
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError):
        raise DamagedError("The backup's backup_metadata.json is not JSON.") from None
    if not isinstance(metadata, dict):
        raise DamagedError("The backup's backup_metadata.json is not an object.")
    if metadata.get("backup_name") != name:
        raise DamagedError(
            f"The file's name says {name!r}, its metadata {str(metadata.get('backup_name'))[:100]!r}: it was renamed.",
            "Give the file the name that its metadata holds, followed by .tar.gz.",
        )
    return metadata


def _inflate(stored: bytes, length: int) -> bytes:
    """Joined members that must give exactly `length` bytes."""
    data, size = [], 0
    try:
        for piece in stream_members([stored]):
            size += len(piece)
            if size > length:
                break
            data.append(piece)
    except InflateError as error:
        raise DamagedError(f"The archive's index or metadata is damaged ({error}).") from None
    if size != length:
        raise DamagedError("The archive's index or metadata does not have its declared length.")
    return b"".join(data)

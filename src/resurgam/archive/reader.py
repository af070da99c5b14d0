"""Reads an archive that bears our mark; every byte of it is untrusted until its digest was checked.

Chunks are decompressed by worker threads, in blocks, and any entry can be read without what stands before it.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.archive.footer import LENGTH, Footer
from resurgam.archive.headers import padding
from resurgam.archive.index import Index, IndexedEntry
from resurgam.archive.names import NameRegister
from resurgam.archive.tarstream import ByteWindow, Content, walk_tar
from resurgam.errors import DamagedError
from resurgam.pipeline.codec import InflateError, open_member, stream_members
from resurgam.pipeline.workers import ordered_map

_BLOCK = 4 << 20
_MAX_METADATA = 256 << 20
_MAX_INDEX = 4 << 30


@dataclass(frozen=True, slots=True)
class _Batch:
    """Neighbouring chunks that one worker reads and opens together."""

    offset: int
    first: int
    last: int


class NativeArchive:
    """One archive of ours, open for reading. DamagedError as soon as something does not fit."""

    foreign = False

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = os.fstat(self._fd).st_size
            tail = os.pread(self._fd, LENGTH, max(0, self.size - LENGTH))
            self._footer = Footer.decode(tail, self.size)
        except BaseException:
            os.close(self._fd)
            raise

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metadata(self) -> dict[str, Any]:
        """The content of backup_metadata.json, which must be this backup's; two small reads of the file."""
        footer = self._footer
        if footer.metadata_length > _MAX_METADATA:
            raise DamagedError("The archive's metadata is impossibly long.")
        stored = self._checked(footer.metadata_offset, footer.metadata_stored, footer.metadata_digest, "metadata")
        padded = footer.metadata_length + padding(footer.metadata_length)
        return parse_metadata(_inflate(stored, padded)[: footer.metadata_length], self.name)

    @cached_property
    def index(self) -> Index:
        """The index, checked against its digest, its own counts, and the file's ranges."""
        footer = self._footer
        if footer.index_plain > _MAX_INDEX:
            raise DamagedError("The archive's index is impossibly long.")
        stored = self._checked(footer.index_offset, footer.index_stored, footer.index_digest, "index")
        index = Index.decode(_inflate(stored, footer.index_plain))
        if index.backup_name != self.name:
            raise DamagedError(f"The archive is of the backup {index.backup_name!r}; it was renamed.")
        if sum(index.chunk_stored) != footer.index_offset or sum(index.chunk_lengths) != footer.stream:
            raise DamagedError("The archive's index does not fit the file.")
        return index

    def entries(self) -> Iterator[Entry]:
        """Every entry below the top folder, by the index alone; names are checked."""
        for indexed in self._indexed():
            yield indexed.entry

    def contents(self, wanted: Callable[[Entry], bool]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """The wanted entries in the stream's order with their bytes, checked against their digests as they pass."""
        window, window_end = ByteWindow(()), -1
        chosen = [indexed for indexed in self._indexed() if wanted(indexed.entry)]
        for position, indexed in enumerate(chosen):
            entry = indexed.entry
            if entry.kind is not Kind.FILE:
                yield entry, iter(())
                continue
            if indexed.offset + entry.size > window_end:
                window_end = _stretch_end(chosen, position)
                window = ByteWindow(self.read(indexed.offset, window_end - indexed.offset))
                window.position = indexed.offset
            window.skip(indexed.offset - window.position)
            content = Content(window, entry.size, padded=False)
            yield entry, _with_digest(entry, content, indexed.digest)
            content.finish()

    def walk(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Everything: each chunk decoded, the tar stream parsed by itself and equal to the index (sentence 20)."""
        expected = self.index.entries()
        for member, blocks in walk_tar(self.read(0, self._footer.stream), self.name.encode()):
            indexed = next(expected, None)
            if indexed is None or not _same(indexed.entry, member.entry):
                raise DamagedError(f"The index and the tar stream differ at {printable(member.entry.path)!r}.")
            entry = indexed.entry
            if entry.kind is Kind.FILE:
                blocks = _with_digest(entry, blocks, indexed.digest)
            if entry.path:
                yield entry, blocks
            for _ in blocks:  # what the consumer left is checked as well
                pass
        if next(expected, None) is not None:
            raise DamagedError("The index holds entries that the tar stream does not.")

    def find(self, path: bytes) -> IndexedEntry | None:
        return next((found for found in self.index.entries() if found.entry.path == path), None)

    def read(self, offset: int, length: int) -> Iterator[bytes]:
        """Bytes of the tar stream, from any offset, every chunk checked; safe to call from several threads."""
        if length <= 0:
            return
        starts, _ = self._chunk_starts
        skip = offset - starts[bisect_right(starts, offset) - 1]
        for data in ordered_map(self._open_batch, self._batches(offset, offset + length)):
            piece = data[skip : skip + length] if skip or len(data) > length else data
            skip = 0
            length -= len(piece)
            yield piece

    @cached_property
    def _chunk_starts(self) -> tuple[list[int], list[int]]:
        """Where each chunk begins, in the tar stream and in the file."""
        index = self.index
        lengths = accumulate(index.chunk_lengths, initial=0)
        return list(lengths), list(accumulate(index.chunk_stored, initial=0))

    def _batches(self, start: int, end: int) -> Iterator[_Batch]:
        starts, stored = self._chunk_starts
        first = bisect_right(starts, start) - 1
        while first < len(starts) - 1 and starts[first] < end:
            last = first + 1
            while last < len(starts) - 1 and starts[last] < end and starts[last + 1] - starts[first] <= _BLOCK:
                last += 1
            yield _Batch(stored[first], first, last)
            first = last

    def _open_batch(self, batch: _Batch) -> bytes:
        index, position = self.index, 0
        length = self._chunk_starts[1][batch.last] - batch.offset
        stored = memoryview(os.pread(self._fd, length, batch.offset))
        chunks = []
        for i in range(batch.first, batch.last):
            data = open_member(stored[position : position + index.chunk_stored[i]], index.chunk_lengths[i])
            if blake3(data).digest() != index.chunk_digest(i):
                raise DamagedError(f"A block at byte {batch.offset + position:,} of the archive was changed.")
            position += index.chunk_stored[i]
            chunks.append(data)
        return b"".join(chunks)

    def _indexed(self) -> Iterator[IndexedEntry]:
        register = NameRegister()
        for indexed in self.index.entries():
            if indexed.entry.path:
                register.admit(indexed.entry)
                if indexed.offset + indexed.entry.size > self._footer.stream:
                    raise DamagedError("The archive's index places an entry outside the tar stream.")
                yield indexed

    def _checked(self, offset: int, length: int, digest: bytes, what: str) -> bytes:
        stored = os.pread(self._fd, length, offset)
        if len(stored) != length or blake3(stored).digest() != digest:
            raise DamagedError(f"The archive's {what} is damaged.", "Take another backup or its copy elsewhere.")
        return stored


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


def _stretch_end(chosen: list[IndexedEntry], position: int) -> int:
    """How far to read in one go: up to the first gap between wanted files that is worth a new start."""
    end = chosen[position].offset
    for indexed in chosen[position:]:
        if indexed.entry.kind is Kind.FILE:
            if indexed.offset - end > _BLOCK:
                break
            end = indexed.offset + indexed.entry.size
    return end


def _with_digest(entry: Entry, blocks: Iterator[bytes] | Content, digest: bytes) -> Iterator[bytes]:
    hasher = blake3()
    for block in blocks:
        hasher.update(block)
        yield block
    if hasher.digest() != digest:
        raise DamagedError(f"The content of {printable(entry.path)!r} does not have the digest that the index gives.")


def _same(indexed: Entry, parsed: Entry) -> bool:
    """Equal in all that a ustar header can say: whole seconds, names of up to 31 bytes, no holes."""

    def fits(name: str) -> str:
        return name if len(name.encode("utf-8", "surrogateescape")) < 32 else ""

    seconds = indexed.mtime_ns // 1_000_000_000 * 1_000_000_000
    return parsed == replace(
        indexed, mtime_ns=seconds, sparse=False, uname=fits(indexed.uname), gname=fits(indexed.gname)
    )

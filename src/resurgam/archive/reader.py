"""Reads an archive that bears our mark; every byte of it is untrusted until its digest was checked.

Chunks are decompressed by worker threads, in blocks, and any entry can be read without what stands before it.
"""

from __future__ import annotations

import json
import os
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, islice
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.archive.footer import LENGTH, METADATA_NAME, Footer
from resurgam.archive.headers import MIN_TIME, owner_text, padding
from resurgam.archive.index import DIGEST, NO_DIGEST, Index, IndexedEntry
from resurgam.archive.names import NameRegister
from resurgam.archive.stored import StoredFile
from resurgam.archive.tarstream import ByteWindow, Content, walk_tar
from resurgam.errors import DamagedError
from resurgam.pipeline.codec import InflateError, open_member, stored_check, stream_members
from resurgam.pipeline.workers import ordered_map

_BLOCK = 4 << 20
_STRETCH = 4096
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class _Batch:
    """Neighbouring chunks that one worker reads and opens together."""

    offset: int
    first: int
    last: int


class NativeArchive:
    """One archive of ours, open for reading. DamagedError as soon as something does not fit."""

    foreign = False

    def __init__(self, file: StoredFile, name: str) -> None:
        self.path, self.name, self.size = file.path, name, file.size
        self._file = file
        self._names_checked = False
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

    def entries(self) -> Iterator[Entry]:
        """Every entry below the top folder, by the index alone; names are checked."""
        for indexed in self._indexed():
            yield indexed.entry

    def contents(self, wanted: Callable[[Entry], bool]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """The wanted entries in the stream's order with their bytes, checked against their digests as they pass.

        All names are checked before the first entry is given out.
        """
        if not self._names_checked:
            for _ in self._indexed():
                pass
        for stretch in _stretches(found for found in self._indexed() if wanted(found.entry)):
            yield from self._stretch(stretch)

    def _stretch(self, stretch: list[IndexedEntry]) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Entries that lie close to each other, by one run over the chunks between the first and the last."""
        start = stretch[0].offset
        with closing(self.read(start, max(found.offset + found.entry.size for found in stretch) - start)) as blocks:
            window = ByteWindow(blocks, start)
            for indexed in stretch:
                entry = indexed.entry
                if entry.kind is not Kind.FILE:
                    yield entry, iter(())
                    continue
                window.skip(indexed.offset - window.position)
                content = Content(window, entry.size, padded=False)
                yield entry, _with_digest(entry, content, indexed.digest)
                content.finish()

    def walk(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Everything: each chunk decoded, the tar stream parsed by itself and equal to the index (sentence 20)."""
        expected, metadata = self.index.entries(), None
        with closing(self.read(0, self._footer.stream)) as stream:
            for member, blocks in walk_tar(stream, os.fsencode(self.name)):
                indexed = next(expected, None)
                if indexed is None or indexed.offset != member.offset or not _same(indexed, member.entry):
                    raise DamagedError(f"The index and the tar stream differ at {printable(member.entry.path)!r}.")
                entry = indexed.entry
                if entry.kind is Kind.FILE:
                    blocks = _with_digest(entry, blocks, indexed.digest)
                if entry.path == METADATA_NAME:
                    metadata = indexed
                if entry.path:
                    yield entry, blocks
                for _ in blocks:  # what the consumer left is checked as well
                    pass
        if next(expected, None) is not None:
            raise DamagedError("The index holds entries that the tar stream does not.")
        self._check_metadata_place(metadata)

    def _check_metadata_place(self, found: IndexedEntry | None) -> None:
        """The footer must point to the chunks that hold the stream's backup_metadata.json, and to no others."""
        footer = self._footer
        if found is not None:
            starts, stored = self._chunk_starts
            size = found.entry.size
            first = bisect_left(starts, found.offset)
            last = bisect_left(starts, found.offset + size + padding(size))
            place = (starts[first], stored[first], stored[last], size)
            begin = footer.metadata_offset
            if place == (found.offset, begin, begin + footer.metadata_stored, footer.metadata_length):
                return
        raise DamagedError("The archive's footer and its tar stream do not hold the same metadata.")

    def find(self, path: bytes) -> IndexedEntry | None:
        return next((found for found in self.index.entries() if found.entry.path == path), None)

    def read(self, offset: int, length: int) -> Generator[bytes, None, None]:
        """Bytes of the tar stream, from any offset, every chunk checked; safe to call from several threads.

        Ends early where the stream ends.
        """
        if length <= 0:
            return
        starts, _ = self._chunk_starts
        skip = offset - starts[bisect_right(starts, offset) - 1]
        batches = list(islice(self._batches(offset, offset + length), 2))
        # One batch is not worth a thread.
        pieces = (
            map(self._open_batch, batches)
            if len(batches) < 2
            else ordered_map(self._open_batch, self._batches(offset, offset + length))
        )
        for data in chain.from_iterable(pieces):
            piece = data[skip : skip + length] if skip or len(data) > length else data
            skip = 0
            length -= len(piece)
            yield piece

    @cached_property
    def _chunk_starts(self) -> tuple[array[int], array[int]]:
        """Where each chunk begins, in the tar stream and in the file; the ends are the last items."""
        index = self.index
        lengths, stored = accumulate(index.chunk_lengths, initial=0), accumulate(index.chunk_stored, initial=0)
        return array("Q", lengths), array("Q", stored)

    def _batches(self, start: int, end: int) -> Iterator[_Batch]:
        starts, stored = self._chunk_starts
        first = bisect_right(starts, start) - 1
        while first < len(starts) - 1 and starts[first] < end:
            last = first + 1
            while last < len(starts) - 1 and starts[last] < end and starts[last + 1] - starts[first] <= _BLOCK:
                last += 1
            yield _Batch(stored[first], first, last)
            first = last

    def _open_batch(self, batch: _Batch) -> list[bytes]:
        index, position = self.index, 0
        length = self._chunk_starts[1][batch.last] - batch.offset
        stored = memoryview(self._file.read(batch.offset, length))
        chunks = []
        for i in range(batch.first, batch.last):
            member = stored[position : position + index.chunk_stored[i]]
            if stored_check(member) != index.chunk_checks[i]:
                raise _changed(batch.offset + position)
            data = open_member(member, index.chunk_lengths[i])
            if blake3(data).digest(DIGEST) != index.chunk_digest(i):
                raise _changed(batch.offset + position)
            position += len(member)
            chunks.append(data)
        return chunks

    def _indexed(self) -> Iterator[IndexedEntry]:
        """What stands below the top folder, by the index. Names are checked when it is read for the first time."""
        register = None if self._names_checked else NameRegister()
        for indexed in islice(self.index.entries(), 1, None):
            if register is not None:
                entry = indexed.entry
                register.admit(entry)
                if indexed.offset + entry.size > self._footer.stream or (entry.size and entry.kind is not Kind.FILE):
                    raise DamagedError("The archive's index places an entry outside the tar stream.")
            yield indexed
        self._names_checked = True

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


def _stretches(chosen: Iterable[IndexedEntry]) -> Iterator[list[IndexedEntry]]:
    """Neighbours together, until a gap that is worth a new start; not too many, since they are held in memory."""
    stretch: list[IndexedEntry] = []
    end = 0
    for indexed in chosen:
        if stretch and (indexed.offset - end > _BLOCK or len(stretch) >= _STRETCH):
            yield stretch
            stretch = []
        stretch.append(indexed)
        end = indexed.offset + indexed.entry.size
    if stretch:
        yield stretch


def _with_digest(entry: Entry, blocks: Iterator[bytes] | Content, digest: bytes) -> Iterator[bytes]:
    hasher = blake3()
    for block in blocks:
        hasher.update(block)
        yield block
    if hasher.digest(DIGEST) != digest:
        raise DamagedError(f"The content of {printable(entry.path)!r} does not have the digest that the index gives.")


def _same(indexed: IndexedEntry, parsed: Entry) -> bool:
    """Equal in all that a ustar header can say: whole seconds, names of up to 31 bytes, no holes."""
    entry = indexed.entry
    return (
        parsed.path == entry.path
        and parsed.kind is entry.kind
        and parsed.size == entry.size
        and parsed.mode == entry.mode
        and parsed.mtime_ns == max(entry.mtime_ns // _SECOND * _SECOND, MIN_TIME)
        and (parsed.uid, parsed.gid) == (entry.uid, entry.gid)
        and (parsed.uname, parsed.gname) == (owner_text(entry.uname), owner_text(entry.gname))
        and parsed.target == entry.target
        and (entry.kind is Kind.FILE or indexed.digest == NO_DIGEST)
    )

"""Writes one archive into a sink: entries in, gzip members out, index and footer last.

The caller owns the file behind the sink (its exclusive creation, and its removal after a failure) and the order of
entries. Nothing is held in memory but a few blocks per worker and the index's columns. `finish` has the sink sync the
file and read the stored bytes back; only then may the caller publish it (docs/ordering.md, sentence 7).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from blake3 import blake3

from resurgam.archive.closing import MetadataPlace, closing_members
from resurgam.archive.entry import Entry, Kind, Offer, printable
from resurgam.archive.footer import MAX_METADATA, METADATA_NAME, mark_member
from resurgam.archive.headers import BLOCK, RECORD, build, padding
from resurgam.archive.index import DIGEST, NO_DIGEST, Index
from resurgam.archive.segments import LARGE, admitted, ends_run
from resurgam.pipeline.chunker import COARSE, FINE, Block, Chunker, Cutting
from resurgam.pipeline.codec import STORED_OVERHEAD, member, stored_check, stored_member
from resurgam.pipeline.workers import OrderedPool


@dataclass(frozen=True, slots=True)
class _Stored:
    """A block after compression: its members joined, and what index and read-back need."""

    data: bytes
    lengths: tuple[int, ...]
    stored: list[int]
    digests: list[bytes]
    checks: list[int]
    check: bytes


def _compress(block: Block) -> _Stored:
    position = 0
    members, digests = [], []
    for length in block.lengths:
        chunk = block.data[position : position + length]
        digests.append(blake3(chunk).digest(DIGEST))
        members.append(member(chunk))
        position += length
    data = b"".join(members)
    checks = [stored_check(stored) for stored in members]
    return _Stored(data, block.lengths, [len(m) for m in members], digests, checks, blake3(data).digest())


class Sink(Protocol):
    """Takes an archive's bytes in order. StorageError if they can't be kept."""

    def write(self, data: bytes, digest: bytes) -> None:
        """Append bytes, with their BLAKE3 digest."""

    def reserve(self, length: int) -> None:
        """Leave room for so many bytes that are known later; one room at a time."""

    def fill(self, data: bytes) -> None:
        """Give the reserved bytes."""

    def finish(self) -> int:
        """Get all of it to the disk and check what the disk holds. Answers the file's size in bytes."""

    def close(self) -> None: ...


class ArchiveWriter:
    """`add` and `add_late` append entries below the top folder, `finish` the metadata, index and footer."""

    restrict_key = ""  # nothing is compared with earlier archives

    def __init__(self, sink: Sink, backup_name: str, *, mtime_ns: int) -> None:
        self._sink = sink
        self._top = os.fsencode(backup_name)
        self._index = Index(backup_name)
        self._pool: OrderedPool[Block, _Stored] = OrderedPool(_compress, self._store)
        self._run = Chunker(FINE)
        self._at = 0
        self._metadata_digest: blake3 | None = None
        self._stream = 0
        self._whole = True
        self.total_files = 0
        self.content_bytes = 0
        try:
            self._start(mtime_ns)
        except BaseException:
            sink.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, value, trace)
        self._sink.close()

    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
        """Append an entry whose size is known; `blocks` must give exactly `entry.size` bytes.

        FileSourceError for a name that no restore would take, ValueError for another number of bytes. An entry
        below LARGE that fails, also in `blocks`, leaves the archive as it was; after a larger one it is of no use.
        """
        entry = self._admit(entry)
        head = build(entry, self._top)
        if entry.size >= LARGE:
            self._add_large(entry, head, blocks)
            return
        data = b"".join(blocks)
        self._expect(entry, len(data))
        self._stream += len(head) + len(data) + padding(len(data))
        digest = blake3(data).digest(DIGEST) if entry.kind is Kind.FILE else NO_DIGEST
        self._index.add_entry(entry, len(head) // BLOCK, digest)
        self._count(entry)
        self._submit(self._run.feed(head, data, bytes(padding(len(data)))))
        if ends_run(entry.path):
            self._end_run()

    def offer(self, offered: Offer) -> None:
        """Append what is offered; an archive knows nothing of earlier ones, so it is read at once."""
        got = offered.read()
        if got is not None:
            self.add(*got)
            offered.changed()

    def settle(self) -> None:
        """Nothing is left to be read."""

    def add_late(self, entry: Entry, blocks: Iterable[bytes]) -> Entry:
        """Append a file whose size is known only at its end; answers the entry with its size."""
        entry = self._admit(entry)
        self._end_run()
        self._pool.drain()
        room = BLOCK + STORED_OVERHEAD
        self._sink.reserve(room)
        self._at += room
        chunk = self._index.add_chunk(BLOCK, room)
        position = self._index.add_entry(entry, 1)
        size, digest = self._content(FINE, blocks)
        self._pool.drain()
        self._whole = True
        entry = entry._replace(size=size)
        head = build(entry, self._top)
        if len(head) != BLOCK:
            raise ValueError(f"the name {printable(entry.path)} needs more than one header block")
        stored = stored_member(head)
        self._sink.fill(stored)
        self._index.set_chunk(chunk, blake3(head).digest(DIGEST), stored_check(stored))
        self._index.set_late(position, digest, size)
        self._count(entry)
        self._stream += BLOCK + size + padding(size)
        return entry

    def finish(self, metadata: bytes, mtime_ns: int) -> int:
        """Append metadata, end blocks, index and footer; sync; read back. Answers the file's size in bytes.

        StorageError if the disk gave back anything but what was written.
        """
        if len(metadata) > MAX_METADATA:
            raise ValueError(f"metadata of {len(metadata):,} bytes are more than a reader takes")
        entry = self._admit(Entry(METADATA_NAME, Kind.FILE, 0o644, mtime_ns=mtime_ns, size=len(metadata)))
        head = build(entry, self._top)
        self._segment(head)
        self._index.add_entry(entry, len(head) // BLOCK, blake3(metadata).digest(DIGEST))
        self._count(entry)
        self._pool.drain()
        metadata_at, self._metadata_digest = self._at, blake3()
        self._segment(metadata + bytes(padding(len(metadata))))
        self._pool.drain()
        digest, self._metadata_digest = self._metadata_digest.digest(), None
        place = MetadataPlace(metadata_at, self._at - metadata_at, len(metadata), digest)
        self._stream += len(head) + len(metadata) + padding(len(metadata))
        end = 2 * BLOCK + -(self._stream + 2 * BLOCK) % RECORD
        self._segment(bytes(end))
        self._pool.drain()
        self._stream += end
        self._write_index(place)
        return self._sink.finish()

    def _start(self, mtime_ns: int) -> None:
        entry = Entry(b"", Kind.FOLDER, 0o755, mtime_ns=mtime_ns)
        head = build(entry, self._top)
        self._index.add_entry(entry, len(head) // BLOCK)
        stored = mark_member(head)
        self._index.add_chunk(len(head), len(stored), blake3(head).digest(DIGEST), stored_check(stored))
        self._stream += len(head)
        self._write(stored, blake3(stored).digest())

    def _add_large(self, entry: Entry, head: bytes, blocks: Iterable[bytes]) -> None:
        self._segment(head)
        position = self._index.add_entry(entry, len(head) // BLOCK)
        size, digest = self._content(COARSE, blocks)
        self._expect(entry, size)
        self._whole = True
        self._stream += len(head) + size + padding(size)
        self._index.set_late(position, digest)
        self._count(entry)

    def _content(self, cutting: Cutting, blocks: Iterable[bytes]) -> tuple[int, bytes]:
        """Append one file's content and padding as a segment of its own; answers its size and digest."""
        self._whole = False
        chunker, hasher, size = Chunker(cutting), blake3(), 0
        for block in blocks:
            hasher.update(block)
            size += len(block)
            self._submit(chunker.feed(block))
        if padding(size):
            self._submit(chunker.feed(bytes(padding(size))))
        self._submit(chunker.finish())
        return size, hasher.digest(DIGEST)

    def _segment(self, data: bytes) -> None:
        """Append bytes as a segment of their own."""
        self._end_run()
        chunker = Chunker(FINE)
        self._submit(chunker.feed(data))
        self._submit(chunker.finish())

    def _end_run(self) -> None:
        self._submit(self._run.finish())

    def _submit(self, block: Block | None) -> None:
        if block is not None:
            self._pool.submit(block)

    def _store(self, block: _Stored) -> None:
        for chunk in zip(block.lengths, block.stored, block.digests, block.checks, strict=True):
            self._index.add_chunk(*chunk)
        self._write(block.data, block.check)

    def _admit(self, entry: Entry) -> Entry:
        if not self._whole:
            raise ValueError("an entry before was not written whole; the archive is of no use")
        return admitted(entry, len(self._index))

    def _count(self, entry: Entry) -> None:
        if entry.kind is Kind.FILE:
            self.total_files += 1
            self.content_bytes += entry.size

    def _expect(self, entry: Entry, size: int) -> None:
        if size != entry.size:
            raise ValueError(f"{printable(entry.path)}: {size} bytes came, {entry.size} were announced")

    def _write_index(self, metadata: MetadataPlace) -> None:
        for stored in closing_members(self._index, self._at, self._stream, metadata, member):
            self._write(stored, blake3(stored).digest())

    def _write(self, data: bytes, digest: bytes) -> None:
        self._sink.write(data, digest)
        self._at += len(data)
        if self._metadata_digest is not None:
            self._metadata_digest.update(data)

"""Writes one backup into a repository: entries in, records and deduplicated chunks out (sentences 10 to 21).

The face is that of an archive's writer. `offer` takes what may be read later or not at all: where a whole record is the
last backup's, its files are not read again. Nothing counts before the commit (repository/commit.py) has put manifest
and outcome.

Memory: a few blocks for each worker, a few packs on their way, the names of one run of small files, and 36 bytes for
each chunk of the entry that is being written.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from blake3 import blake3

from resurgam.archive.entry import Entry, Kind, Offer, printable
from resurgam.archive.footer import MAX_METADATA, METADATA_NAME
from resurgam.archive.headers import BLOCK, RECORD, header_blocks, padding
from resurgam.archive.index import DIGEST, NO_DIGEST, Index
from resurgam.archive.segments import LARGE, admitted, ends_run
from resurgam.pipeline.chunker import COARSE, Block, Chunker, Cutting
from resurgam.pipeline.workers import OrderedPool
from resurgam.repository.known import KnownRecords
from resurgam.repository.manifests import list_entry
from resurgam.repository.packing import Packing, Sort
from resurgam.repository.records import Printer, Record, bodies, day_of, framed

# Dumps and small files: half of what an archive has. With 1 % of the rows changed the next backup adds 39 MB instead of
# 60 to a dump of 676 MB (design, section 2).
FINE = Cutting(8 << 10, 32 << 10, 128 << 10, 4 << 20)
# A run that was offered is held, and its folders are open, until it is known whether it must be read.
_MOST_IN_RUN = 1024
_HEAD = bytes(BLOCK)


@dataclass(slots=True, eq=False)
class _Pending:
    """A record on its way to the list: `waiting` blocks are with the workers. `body`: one that is taken over."""

    record: Record
    waiting: int = 0
    closed: bool = False
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Work:
    pending: _Pending
    block: Block


@dataclass(frozen=True, slots=True)
class _Made:
    """A block after the workers: each chunk's id, length, and its member unless it was stored before."""

    pending: _Pending
    chunks: list[tuple[bytes, int, bytes | None]]


@dataclass(slots=True)
class Totals:
    """What went into the backup, in bytes and numbers; `unread`: entries that were taken over without reading."""

    stream: int = 0
    entries: int = 0
    files: int = 0
    content: int = 0
    stored: int = 0
    unread: int = 0
    metadata_at: int = 0
    metadata_length: int = 0


class RepositoryWriter:
    """One backup. `add`, `add_late` and `offer` append entries, `finish` the metadata and the stream's end."""

    def __init__(
        self,
        packing: Packing,
        backup_name: str,
        *,
        mtime_ns: int,
        now_ns: int,
        known: KnownRecords,
        scratch: Path | None = None,
    ) -> None:
        """`now_ns`: the present moment, before anything is read; `known`: the last backup's records; `scratch`: a
        folder for the list's file, which has no name."""
        self._packing, self._known = packing, known
        self._top = os.fsencode(backup_name)
        self._now_ns, self._today = now_ns, day_of(now_ns)
        self._pool: OrderedPool[_Work, _Made] = OrderedPool(self._prepare, self._deliver)
        self._pending: deque[_Pending] = deque()
        self._run: _Pending | None = None
        self._run_chunker = self._chunker(FINE)
        self._offers: list[Offer] = []
        self._list_chunker = self._chunker(FINE)
        self._list_file = TemporaryFile(dir=scratch)  # noqa: SIM115 - closed with the writer
        self.list_chunks = bytearray()
        self.list_length = 0
        self.totals = Totals()
        self._whole = True
        self._add_small(Entry(b"", Kind.FOLDER, 0o755, mtime_ns=mtime_ns), ())
        self._end_run()

    @property
    def restrict_key(self) -> str:
        """The same for every dump, so that its text deduplicates; whoever writes into the database can't guess it."""
        return blake3(b"restrict key", key=self._packing.names).hexdigest()

    @property
    def total_files(self) -> int:
        return self.totals.files

    @property
    def content_bytes(self) -> int:
        return self.totals.content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, value, trace)
        self._packing.close()
        self._list_file.close()

    def content_chunks(self) -> Iterator[tuple[bytes, int]]:
        """Id and length of every chunk of the stream, once the writer has finished."""
        for body in bodies(self.list_blocks()):
            record = Record.decode(body)
            yield from zip(record.ids(), record.lengths, strict=True)

    def list_blocks(self) -> Iterator[bytes]:
        """The list's bytes, once the writer has finished."""
        self._list_file.seek(0)
        return iter(lambda: self._list_file.read(1 << 20), b"")

    # Entries

    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
        """Append an entry whose size is known; `blocks` must give exactly `entry.size` bytes.

        FileSourceError for a name that no restore would take, ValueError for another number of bytes. An entry
        below LARGE that fails, also in `blocks`, leaves the backup as it was; after a larger one it is of no use.
        """
        entry = self._admit(entry)
        if self._offers:
            self._end_run()
        if entry.size >= LARGE:
            self._close(self._add_large(entry, blocks))
            return
        self._add_small(entry, blocks)
        if ends_run(entry.path):
            self._end_run()

    def add_late(self, entry: Entry, blocks: Iterable[bytes]) -> Entry:
        """Append a file whose size is known only at its end; answers the entry with its size."""
        entry = self._admit(entry)
        self._end_run()
        pending = self._begin()
        size = self._content(pending, entry, FINE, blocks)
        self._close(pending)
        return entry._replace(size=size)

    def offer(self, offered: Offer) -> None:
        """Append what may be known. It is read when that has turned out, at the latest by `settle`."""
        entry = self._admit(offered.entry)
        if entry is not offered.entry:
            offered = offered._replace(entry=entry)
        if self._run is not None or entry.size >= LARGE:
            self._end_run()
        self._offers.append(offered)
        if entry.size >= LARGE or ends_run(entry.path) or len(self._offers) >= _MOST_IN_RUN:
            self._end_run()

    def settle(self) -> None:
        """Read what was offered and is not known, so that what it is read from may be closed."""
        self._end_run()

    def finish(self, metadata: bytes, mtime_ns: int) -> int:
        """Append the metadata and the stream's end; put every pack, and an index. Answers the members' bytes."""
        if len(metadata) > MAX_METADATA:
            raise ValueError(f"metadata of {len(metadata):,} bytes are more than a reader takes")
        self._end_run()
        entry = self._admit(Entry(METADATA_NAME, Kind.FILE, 0o644, mtime_ns=mtime_ns, size=len(metadata)))
        self.totals.metadata_at = self.totals.stream + header_blocks(entry, self._top) * BLOCK
        self.totals.metadata_length = len(metadata)
        pending = self._begin()
        self._content(pending, entry, FINE, [metadata])
        self._close(pending)
        end = self._begin()
        zeros = 2 * BLOCK + -(self.totals.stream + 2 * BLOCK) % RECORD
        self._segment(end, bytes(zeros))
        self._close(end)
        self.totals.stream += zeros
        self._pool.drain()
        self._emit()
        self._store_list(self._list_chunker.finish())
        self._packing.flush()
        return self.totals.stored

    def _admit(self, entry: Entry) -> Entry:
        if not self._whole:
            raise ValueError("an entry before was not written whole; the backup is of no use")
        return admitted(entry, self.totals.entries + len(self._offers))

    # Records

    def _begin(self) -> _Pending:
        """A record, at the list's end."""
        pending = _Pending(Record(Index(""), self._today))
        self._pending.append(pending)
        return pending

    def _close(self, pending: _Pending) -> None:
        """Nothing more will come into the record."""
        pending.closed = True
        self._emit()

    def _end_run(self) -> None:
        """End the run that is being written, or settle the one that was offered."""
        offers, self._offers = self._offers, []
        if offers:
            self._settle(offers)
        if self._run is not None:
            run, self._run = self._run, None
            self._submit(run, self._run_chunker.finish())
            self._close(run)

    def _settle(self, offers: list[Offer]) -> None:
        """One record for what was offered: the last backup's if nothing changed, or else its files read."""
        printer = Printer(self._packing.names, len(self._top))
        for entry, identity, _, _ in offers:
            printer.add(entry, identity, self._now_ns)
        body = self._known.find(printer.found, self._today)
        if body is not None and self._take_over(body):
            return
        written: list[_Pending] = []
        for offered, _, read, changed in offers:
            got = read()
            if got is None:
                printer.unsettle()
                continue
            entry, blocks = got
            if entry is not offered:
                entry = self._admit(entry)
            pending = self._add_large(entry, blocks) if entry.size >= LARGE else self._add_small(entry, blocks)
            # Whether a file has holes is known only when it is open.
            if (entry is not offered and entry._replace(sparse=False) != offered._replace(sparse=False)) or changed():
                printer.unsettle()
            if not written or written[-1] is not pending:
                written.append(pending)
        if len(written) == 1:
            written[0].record.print = printer.kept
        for pending in written:
            if pending is not self._run and not pending.closed:
                self._close(pending)

    def _take_over(self, body: bytes) -> bool:
        """Have a record of the last backup as it is; False if a chunk of it is not there any more."""
        record = Record.decode(body)
        stored = self._packing.reuse(list(record.ids()))
        if stored is None:
            return False
        totals, sums = self.totals, record.entries.sums()
        totals.entries += sums.entries
        totals.unread += sums.entries
        totals.files += sums.files
        totals.content += sums.content
        totals.stream += sum(record.lengths)
        totals.stored += stored
        self._pending.append(_Pending(record, closed=True, body=body))
        self._emit()
        return True

    def _add_small(self, entry: Entry, blocks: Iterable[bytes]) -> _Pending:
        data = b"".join(blocks)
        if len(data) != entry.size:
            raise ValueError(f"{printable(entry.path)}: {len(data)} bytes came, {entry.size} were announced")
        run = self._run = self._run or self._begin()
        digest = blake3(data).digest(DIGEST) if entry.kind is Kind.FILE else NO_DIGEST
        head = self._note(run, entry, digest)
        after = padding(len(data))
        self._count(len(data) + after, entry)
        before = _HEAD if head == BLOCK else bytes(head)
        block = self._run_chunker.feed(before, data, _HEAD[:after]) if data else self._run_chunker.feed(before)
        if block is not None:
            self._submit(run, block)
        return run

    def _add_large(self, entry: Entry, blocks: Iterable[bytes]) -> _Pending:
        """A record of its own, which the caller closes."""
        self._end_run()
        pending = self._begin()
        size = self._content(pending, entry, COARSE, blocks)
        if size != entry.size:
            self._whole = False
            raise ValueError(f"{printable(entry.path)}: {size} bytes came, {entry.size} were announced")
        return pending

    def _content(self, pending: _Pending, entry: Entry, cutting: Cutting, blocks: Iterable[bytes]) -> int:
        """One file as a header and a segment of its own; answers its size."""
        self._whole = False
        head = header_blocks(entry, self._top)
        self._segment(pending, bytes(head * BLOCK))
        chunker, hasher, size = self._chunker(cutting), blake3(), 0
        for block in blocks:
            hasher.update(block)
            size += len(block)
            self._submit(pending, chunker.feed(block))
        self._submit(pending, chunker.feed(bytes(padding(size))))
        self._submit(pending, chunker.finish())
        entry = entry._replace(size=size)
        self._note(pending, entry, hasher.digest(DIGEST))
        self._count(size + padding(size), entry)
        self._whole = True
        return size

    def _note(self, pending: _Pending, entry: Entry, digest: bytes) -> int:
        """The entry into the record; answers its header's bytes."""
        head = header_blocks(entry, self._top)
        pending.record.entries.add_entry(entry, head, digest)
        self.totals.stream += head * BLOCK
        self.totals.entries += 1
        return head * BLOCK

    def _count(self, padded: int, entry: Entry) -> None:
        self.totals.stream += padded
        if entry.kind is Kind.FILE:
            self.totals.files += 1
            self.totals.content += entry.size

    # Chunks

    def _chunker(self, cutting: Cutting) -> Chunker:
        return Chunker(cutting, self._packing.seed)

    def _segment(self, pending: _Pending, data: bytes) -> None:
        chunker = self._chunker(FINE)
        self._submit(pending, chunker.feed(data))
        self._submit(pending, chunker.finish())

    def _submit(self, pending: _Pending, block: Block | None) -> None:
        if block is not None:
            pending.waiting += 1
            self._pool.submit(_Work(pending, block))

    def _prepare(self, work: _Work) -> _Made:
        """In a worker: name each chunk of the block, and compress those that are new."""
        return _Made(work.pending, self._prepared(work.block))

    def _prepared(self, block: Block) -> list[tuple[bytes, int, bytes | None]]:
        at, made = 0, []
        for length in block.lengths:
            name, stored = self._packing.prepare(block.data[at : at + length])
            made.append((name, length, stored))
            at += length
        return made

    def _deliver(self, made: _Made) -> None:
        record = made.pending.record
        for name, length, stored in made.chunks:
            self.totals.stored += self._packing.take(name, length, stored, "content")
            record.chunks += name
            record.lengths.append(length)
        made.pending.waiting -= 1
        self._emit()

    def _emit(self) -> None:
        """Whole records into the list, in order. Their chunks are made here: a list is short, and order matters."""
        while self._pending and self._pending[0].closed and not self._pending[0].waiting:
            pending = self._pending.popleft()
            encoded = framed(pending.body) if pending.body else pending.record.encode()
            self.list_length += len(encoded)
            self._list_file.write(encoded)
            self._store_list(self._list_chunker.feed(encoded))

    def _store_list(self, block: Block | None) -> None:
        if block is None:
            return
        sort: Sort = "list"
        for name, length, stored in self._prepared(block):
            self._packing.take(name, length, stored, sort)
            self.list_chunks += list_entry(name, length)

"""A backup read by its index: any entry without what stands before it, and everything as one tar stream.

Where the chunks come from (an archive's file, a repository's packs) is the child's to know. Every byte is untrusted
until its digest was checked; chunks are decompressed by worker threads, in batches.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import cached_property
from itertools import accumulate, chain, islice, starmap

from blake3 import blake3

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.headers import MIN_TIME, owner_text, padding
from resurgam.archive.index import DIGEST, NO_DIGEST, Index, IndexedEntry
from resurgam.archive.names import NameRegister
from resurgam.archive.tarstream import ByteWindow, Content, walk_tar
from resurgam.errors import DamagedError
from resurgam.pipeline.workers import ordered_map

_BLOCK = 4 << 20
_STRETCH = 4096
# Up to this size a file's bytes are given at once.
_WHOLE = 1 << 20
_SECOND = 1_000_000_000


class IndexedBackup(ABC):
    """One backup of ours, open for reading. DamagedError as soon as something does not fit."""

    foreign = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._names_checked = False

    @property
    @abstractmethod
    def index(self) -> Index:
        """Entries and chunks, checked against whatever guards them."""

    @property
    @abstractmethod
    def stream(self) -> int:
        """The tar stream's length in bytes."""

    @property
    @abstractmethod
    def metadata_place(self) -> tuple[int, int]:
        """Where the content of backup_metadata.json begins in the tar stream, a chunk's start, and its length."""

    @abstractmethod
    def open_chunks(self, first: int, last: int) -> list[bytes]:
        """The bytes of the chunks from `first` up to `last`, which is excluded, each checked; called by any thread.

        Joining them would copy everything once more, while other threads wait.
        """

    def open_contents(self, first: int, last: int) -> list[bytes]:
        """The same for whoever wants no header: what stands in their places is anything."""
        return self.open_chunks(first, last)

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
        end = max(found.offset + found.entry.size for found in stretch)
        with closing(self._read(start, end - start, self.open_contents)) as blocks:
            window = ByteWindow(blocks, start)
            for entry, offset, digest in stretch:
                if entry.kind is not Kind.FILE:
                    yield entry, iter(())
                    continue
                window.skip(offset - window.position)
                if entry.size <= _WHOLE:
                    data = window.take(entry.size)
                    if blake3(data).digest(DIGEST) != digest:
                        raise _other_content(entry)
                    yield entry, iter((data,) if data else ())
                    continue
                content = Content(window, entry.size, padded=False)
                yield entry, _with_digest(entry, content, digest)
                content.finish()

    def walk(self) -> Iterator[tuple[Entry, Iterator[bytes]]]:
        """Everything: each chunk decoded, the tar stream parsed by itself and equal to the index (sentence 20)."""
        expected, metadata = self.index.entries(), None
        with closing(self.read(0, self.stream)) as stream:
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
        """The metadata's place must hold the stream's backup_metadata.json, in chunks of its own."""
        starts = self._chunk_starts
        if found is not None and self.metadata_place == (found.offset, found.entry.size):
            end = found.offset + found.entry.size + padding(found.entry.size)
            if all(starts[bisect_left(starts, edge)] == edge for edge in (found.offset, end)):
                return
        raise DamagedError("The archive's footer and its tar stream do not hold the same metadata.")

    def find(self, path: bytes) -> IndexedEntry | None:
        return next((found for found in self.index.entries() if found.entry.path == path), None)

    def read(self, offset: int, length: int) -> Generator[bytes, None, None]:
        """Bytes of the tar stream, from any offset, every chunk checked; safe to call from several threads.

        Ends early where the stream ends.
        """
        return self._read(offset, length, self.open_chunks)

    def _read(
        self, offset: int, length: int, open_chunks: Callable[[int, int], list[bytes]]
    ) -> Generator[bytes, None, None]:
        if length <= 0:
            return
        starts = self._chunk_starts
        skip = offset - starts[bisect_right(starts, offset) - 1]
        batches = list(islice(self._batches(offset, offset + length), 2))
        # One batch is not worth a thread.
        pieces = (
            starmap(open_chunks, batches)
            if len(batches) < 2
            else ordered_map(lambda batch: open_chunks(*batch), self._batches(offset, offset + length))
        )
        for data in chain.from_iterable(pieces):
            piece = data[skip : skip + length] if skip or len(data) > length else data
            skip = 0
            length -= len(piece)
            yield piece

    @cached_property
    def _chunk_starts(self) -> array[int]:
        """Where each chunk begins in the tar stream; the last item is the stream's end."""
        return array("Q", accumulate(self.index.chunk_lengths, initial=0))

    def _batches(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Neighbouring chunks that one worker opens together: the first, and the one after the last."""
        starts = self._chunk_starts
        first = bisect_right(starts, start) - 1
        while first < len(starts) - 1 and starts[first] < end:
            last = first + 1
            while last < len(starts) - 1 and starts[last] < end and starts[last + 1] - starts[first] <= _BLOCK:
                last += 1
            yield first, last
            first = last

    def _indexed(self) -> Iterator[IndexedEntry]:
        """What stands below the top folder, by the index. Names are checked when it is read for the first time."""
        register, stream = None if self._names_checked else NameRegister(), self.stream
        for indexed in islice(self.index.entries(), 1, None):
            if register is not None:
                entry = indexed.entry
                register.admit(entry)
                if indexed.offset + entry.size > stream or (entry.size and entry.kind is not Kind.FILE):
                    raise DamagedError("The archive's index places an entry outside the tar stream.")
            yield indexed
        self._names_checked = True


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
        raise _other_content(entry)


def _other_content(entry: Entry) -> DamagedError:
    return DamagedError(f"The content of {printable(entry.path)!r} does not have the digest that the index gives.")


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

"""One backup of a repository, read as an archive is (docs/repository-format.md, sentences 18, 21 and 24)."""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from blake3 import blake3

from resurgam.archive.closing import MetadataPlace, closing_members
from resurgam.archive.footer import METADATA_NAME, mark_member
from resurgam.archive.headers import build, padding
from resurgam.archive.index import DIGEST, Index, Mark
from resurgam.archive.indexed import IndexedBackup
from resurgam.archive.reader import parse_metadata
from resurgam.errors import DamagedError
from resurgam.pipeline.codec import stored_check
from resurgam.pipeline.deterministic import deflated, plain_member
from resurgam.pipeline.workers import ordered_map
from resurgam.repository.manifests import Manifest
from resurgam.repository.packs import CHUNK_ID
from resurgam.repository.reading import ChunkReader
from resurgam.repository.records import Record, bodies


@dataclass(frozen=True, slots=True)
class _Member:
    """One chunk of an export: its gzip member, and what the index says of it."""

    stored: bytes
    length: int
    digest: bytes


class RepositoryBackup(IndexedBackup):
    """A committed backup, open for reading. DamagedError as soon as something does not fit.

    `place` is the manifest's address, `size` the bytes of its chunks' gzip members. `reader` is asked for when a chunk
    is: what the manifest says needs no index.
    """

    def __init__(self, manifest: Manifest, place: str, reader: Callable[[], ChunkReader]) -> None:
        super().__init__(manifest.head.name)
        self.place, self.size = place, manifest.head.stored
        self._manifest, self._reader = manifest, reader
        self._top = os.fsencode(self.name)
        self._chunk_ids = bytearray()
        self._marks: list[Mark] = []
        self._starts = array("Q")

    @property
    def digest(self) -> str:
        """BLAKE3 of the list's chunks, in hexadecimal: their names stand for every entry and chunk of the backup."""
        return blake3(self._manifest.chunks).hexdigest()

    def close(self) -> None:
        """Nothing is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def metadata(self) -> dict[str, Any]:
        """The content of backup_metadata.json, from the manifest."""
        return parse_metadata(self._manifest.metadata, self.name)

    @property
    def stream(self) -> int:
        return self._manifest.head.stream

    @property
    def metadata_place(self) -> tuple[int, int]:
        return self._manifest.head.metadata_at, self._manifest.head.metadata_length

    def list_blocks(self) -> Iterator[bytes]:
        """The list's bytes."""
        return self._reader().blocks(self._manifest.list_chunks())

    @cached_property
    def index(self) -> Index:
        """The list as an archive's index; what only an archive has (stored lengths, checks, digests) is empty."""
        index, ids, offset = Index(self.name), bytearray(), 0
        marks, starts = [], array("Q")
        for body in bodies(self.list_blocks()):
            record = Record.decode(body)
            if len(record.entries):
                marks.append(index.mark())
                starts.append(offset)
                index.extend(record.entries)
            index.chunk_lengths.extend(record.lengths)
            ids += record.chunks
            offset += sum(record.lengths)
        index.check()
        if offset != self.stream or index.sums().entries != self._manifest.head.entries:
            raise DamagedError(f"The list of {self.name} does not fit its manifest.")
        self._marks, self._starts, self._chunk_ids = marks, starts, ids
        self._check_metadata(index)
        return index

    def _check_metadata(self, index: Index) -> None:
        """The manifest's metadata must be those of the stream."""
        last = index.entries(self._marks[-1], self._starts[-1])
        found = next((one for one in last if one.entry.path == METADATA_NAME), None)
        if found is None or found.digest != blake3(self._manifest.metadata).digest(DIGEST):
            raise DamagedError(f"The manifest of {self.name} and its list do not hold the same metadata.")

    def open_contents(self, first: int, last: int) -> list[bytes]:
        return self._reader().contents(self._wanted(first, last))

    def open_chunks(self, first: int, last: int) -> list[bytes]:
        contents = self.open_contents(first, last)
        start, end = self._chunk_starts[first], self._chunk_starts[last]
        if next(self._headers(start, end), None) is None:
            return contents
        data = bytearray().join(contents)
        self._put_headers(data, start)
        return [bytes(data)]

    def export(self) -> Iterator[bytes]:
        """The bytes of the archive NAME.tar.gz; the same each time (sentence 24)."""
        index = Index(self.name)
        index.extend(self.index)
        hasher, at, metadata_at, metadata_stored = blake3(), 0, 0, 0
        begin, length = self.metadata_place
        for start, members in zip(*self._export_batches(), strict=True):
            offset = start
            for one in members:
                if begin <= offset < begin + length + padding(length):
                    metadata_at = metadata_at or at
                    metadata_stored += len(one.stored)
                    hasher.update(one.stored)
                index.add_chunk(one.length, len(one.stored), one.digest, stored_check(one.stored))
                offset += one.length
                at += len(one.stored)
                yield one.stored
        place = MetadataPlace(metadata_at, metadata_stored, length, hasher.digest())
        yield from closing_members(index, at, self.stream, place, plain_member)

    def _export_batches(self) -> tuple[Iterator[int], Iterator[list[_Member]]]:
        batches = list(self._batches(0, self.stream))
        starts = (self._chunk_starts[first] for first, _ in batches)
        return starts, ordered_map(self._members, batches)

    def _members(self, batch: tuple[int, int]) -> list[_Member]:
        """The members of some chunks: as they are stored, or made anew with the headers that belong into them."""
        chunks, start = self._reader().chunks(self._wanted(*batch)), self._chunk_starts[batch[0]]
        data = bytearray().join(chunk.content for chunk in chunks)
        placed = self._put_headers(data, start)
        members, at, next_header = [], 0, 0
        for i, chunk in enumerate(chunks, batch[0]):
            end = at + len(chunk.content)
            content, stored = memoryview(data)[at:end], chunk.member
            while next_header < len(placed) and placed[next_header][1] <= at:
                next_header += 1
            if next_header < len(placed) and placed[next_header][0] < end:
                stored = mark_member(bytes(content), deflated) if i == 0 else plain_member(content)
            members.append(_Member(stored, len(content), blake3(content).digest(DIGEST)))
            at = end
        return members

    def _wanted(self, first: int, last: int) -> list[tuple[bytes, int]]:
        lengths, ids = self.index.chunk_lengths, self._chunk_ids
        return [(bytes(ids[i * CHUNK_ID : (i + 1) * CHUNK_ID]), lengths[i]) for i in range(first, last)]

    def _put_headers(self, data: bytearray, start: int) -> list[tuple[int, int]]:
        """Write the headers into a stretch of the stream, which has zeros there; answers where they stand in it."""
        end, placed = start + len(data), []
        for at, head in self._headers(start, end):
            begin, stop = max(at, start), min(at + len(head), end)
            if any(data[begin - start : stop - start]):
                raise DamagedError(f"A chunk of {self.name} holds something where a header belongs.")
            data[begin - start : stop - start] = head[begin - at : stop - at]
            placed.append((begin - start, stop - start))
        return placed

    def _headers(self, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Where headers stand that overlap a stretch of the stream, and their bytes."""
        if not self._starts:
            return
        number = max(0, bisect_right(self._starts, start) - 1)
        position = self._starts[number]
        for indexed in self.index.entries(self._marks[number], position):
            if position >= end:
                return
            entry = indexed.entry
            if indexed.offset > start:
                head = build(entry, self._top)
                if position + len(head) != indexed.offset:
                    raise DamagedError(f"The list of {self.name} gives a header another length than it has.")
                yield position, head
            position = indexed.offset + entry.size + padding(entry.size)

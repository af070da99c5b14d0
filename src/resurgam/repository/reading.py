"""Chunks out of packs: found, read together where they lie together, opened and named (docs/ordering.md, 49 and 50)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from resurgam.errors import DamagedError, ObjectMissing
from resurgam.repository.index_set import IndexSet, Place
from resurgam.repository.layout import pack_key
from resurgam.repository.packs import open_blob
from resurgam.repository.sealing import HEADER, Kind, Opener
from resurgam.stores.objects import ObjectStore

# What lies between two wanted blobs is read along if it is at most this long: cheaper than another request.
_GAP = 64 << 10
_CIPHERS = 256
_BATCH = 4 << 20


class OpenChunk(NamedTuple):
    """A chunk's bytes and its gzip member as it is stored."""

    content: bytes
    member: bytes


class ChunkReader:
    """Opens chunks of one repository; any thread may ask."""

    def __init__(self, store: ObjectStore, opener: Opener, index: IndexSet) -> None:
        self._store, self._opener, self._index = store, opener, index
        self._ciphers: dict[bytes, AESGCM] = {}
        self._lock = threading.Lock()

    def chunks(self, wanted: list[tuple[bytes, int]]) -> list[OpenChunk]:
        """The chunks of these ids and lengths, in order. DamagedError if one can't be had whole anywhere."""
        found = self.chunks_at_best(wanted)
        return [chunk or self._anywhere(*wanted[i]) for i, chunk in enumerate(found)]

    def chunks_at_best(self, wanted: list[tuple[bytes, int]]) -> list[OpenChunk | None]:
        """The same where each has its best place; None for one that is not whole there. Nothing is listed anew, so that
        another thread may add to the index meanwhile."""
        found: list[OpenChunk | None] = [None] * len(wanted)
        for places in _together(self._first_places(wanted)):
            for i, member, content in self._read_together(places, wanted):
                found[i] = OpenChunk(content, bytes(member))
        return found

    def contents(self, wanted: list[tuple[bytes, int]]) -> list[bytes]:
        """The chunks' bytes alone: no member is kept any longer than its chunk is being opened."""
        found: list[bytes | None] = [None] * len(wanted)
        for places in _together(self._first_places(wanted)):
            for i, _, content in self._read_together(places, wanted):
                found[i] = content
        return [self._anywhere(*wanted[i]).content if content is None else content for i, content in enumerate(found)]

    def blocks(self, wanted: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
        """The chunks' bytes, joined, in blocks of a few MiB."""
        batch: list[tuple[bytes, int]] = []
        size = 0
        for one in wanted:
            batch.append(one)
            size += one[1]
            if size >= _BATCH:
                yield b"".join(self.contents(batch))
                batch, size = [], 0
        if batch:
            yield b"".join(self.contents(batch))

    def _first_places(self, wanted: list[tuple[bytes, int]]) -> list[tuple[int, Place]]:
        places = []
        for i, (chunk, _) in enumerate(wanted):
            if at := self._index.locate(chunk):
                places.append((i, at[0]))
        return places

    def _read_together(
        self, places: list[tuple[int, Place]], wanted: list[tuple[bytes, int]]
    ) -> Iterator[tuple[int, memoryview, bytes]]:
        """One read of a stretch of a pack; what does not open there is left to `_anywhere`."""
        first, last = places[0][1], places[-1][1]
        try:
            cipher = self._cipher(first.pack)
            stretch = self._store.get(pack_key(first.pack), first.offset, last.offset + last.sealed - first.offset)
        except (ObjectMissing, DamagedError):
            return
        view = memoryview(stretch)
        for i, place in places:
            at = place.offset - first.offset
            chunk, length = wanted[i]
            try:
                member, content = open_blob(
                    view[at : at + place.sealed], cipher, place.offset, chunk, length, self._opener.keys.names
                )
            except DamagedError:
                continue
            yield i, member, content

    def _anywhere(self, chunk: bytes, length: int) -> OpenChunk:
        """A chunk that was not where it should be: at any other place, also one that is known since."""
        tried: set[Place] = set()
        places = set(self._index.locate(chunk))
        while True:
            for place in sorted(places - tried):
                for _, member, content in self._read_together([(0, place)], [(chunk, length)]):
                    return OpenChunk(content, bytes(member))
            tried |= places
            self._forget_and_reload()
            places = set(self._index.locate(chunk))
            if places <= tried:  # else it was moved again meanwhile
                break
        raise DamagedError(
            f"The chunk {chunk.hex()} is in none of the repository's packs, or damaged in all of them.",
            "`resurgam verify --all --full` says which backups are hurt; the next backup mends what it can.",
        )

    def _forget_and_reload(self) -> None:
        with self._lock:
            self._ciphers.clear()
            self._index.reload()

    def _cipher(self, pack: bytes) -> AESGCM:
        cipher = self._ciphers.get(pack)
        if cipher is None:
            header = self._opener.header(Kind.PACK, pack, self._store.get(pack_key(pack), 0, HEADER))
            cipher = self._opener.blob_key(header)
            with self._lock:
                if len(self._ciphers) >= _CIPHERS:
                    self._ciphers.clear()
                self._ciphers[pack] = cipher
        return cipher


def _together(places: list[tuple[int, Place]]) -> Iterator[list[tuple[int, Place]]]:
    """Neighbours in one pack, in rising order, with small gaps."""
    group: list[tuple[int, Place]] = []
    for one in places:
        if group:
            before, place = group[-1][1], one[1]
            gap = place.offset - before.offset - before.sealed
            if place.pack != before.pack or not 0 <= gap <= _GAP:
                yield group
                group = []
        group.append(one)
    if group:
        yield group

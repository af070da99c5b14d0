"""Chunks into packs: known ones are left out, new ones sealed, verified and put (docs/ordering.md, sentences 41 to 43).

One run's packs. Worker threads call `prepare`; everything else belongs to the thread of the run.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

from blake3 import blake3

from resurgam.errors import DamagedError
from resurgam.pipeline.codec import member
from resurgam.repository.index_set import IndexSet
from resurgam.repository.layout import index_key, new_id, pack_key
from resurgam.repository.packs import PackBuilder, verify_pack
from resurgam.repository.sealing import Sealer
from resurgam.stores.objects import ObjectStore

# A pack is put when it has this many bytes; the last blob may add 16 MiB.
PACK_SIZE = 16 << 20
# Packs that are sealed, verified and put side by side; each is held in memory.
_IN_FLIGHT = 2
# The content of backups, and their lists: who reads only lists should not read through content.
Sort = Literal["content", "list"]


class Packing:
    """The packs of one run."""

    def __init__(self, store: ObjectStore, sealer: Sealer, index: IndexSet, *, pack_size: int = PACK_SIZE) -> None:
        self._store, self._sealer, self._index = store, sealer, index
        self.names, self.seed = sealer.keys.names, sealer.keys.seed
        self._pack_size = pack_size
        self._builders: dict[Sort, PackBuilder] = {}
        self._in_packs: dict[bytes, int] = {}  # chunks of packs that are still being filled
        self._executor = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="resurgam-packs")
        self._flights: deque[Future[None]] = deque()
        self.used: set[bytes] = set()  # all packs in which what was taken lies
        self.written: list[bytes] = []
        self.indexes: list[bytes] = []
        self._told = 0  # of `written`, how many an index names
        self.added = 0

    def prepare(self, chunk: bytes | memoryview) -> tuple[bytes, bytes | None]:
        """The chunk's id, and its member unless it is there already."""
        name = blake3(chunk, key=self.names).digest()
        return name, None if self._index.reusable(name) is not None else member(chunk)

    def take(self, name: bytes, length: int, stored: bytes | None, sort: Sort = "content") -> int:
        """Have a prepared chunk in the backup; answers its member's length."""
        held = self._in_packs.get(name)
        if held is not None:
            return held
        place = self._index.reusable(name)
        if place is not None:
            self.used.add(place.pack)
            return place.member
        if stored is None:
            raise DamagedError("A chunk that was there is gone; the backup was not taken.", "Take it again.")
        builder = self._builders.get(sort)
        if builder is None:
            builder = self._builders[sort] = PackBuilder(self._sealer)
        builder.add(name, length, stored)
        self._in_packs[name] = len(stored)
        if builder.size >= self._pack_size:
            self._close(sort)
        return len(stored)

    def reuse(self, names: list[bytes]) -> int | None:
        """Have chunks in the backup that were there before; answers their members' length, or None if one is not."""
        total, packs = 0, set()
        for name in names:
            place = self._index.reusable(name)
            if place is None:
                return None
            total += place.member
            packs.add(place.pack)
        self.used |= packs
        return total

    def flush(self) -> None:
        """Put all that was taken, and an index for the packs of which none has told yet."""
        for sort in list(self._builders):
            self._close(sort)
        while self._flights:
            self._flights.popleft().result()
        for packs in self._index.index_groups(self.written[self._told :]):
            name = new_id()
            self._store.put(index_key(name), self._index.encode_index(self._sealer, name, packs))
            self.indexes.append(name)
        self._told = len(self.written)

    def close(self) -> None:
        """End the threads; what is under way ends first."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _close(self, sort: Sort) -> None:
        builder = self._builders.pop(sort)
        while len(self._flights) >= _IN_FLIGHT:
            self._flights.popleft().result()
        self._flights.append(self._executor.submit(self._put, builder))
        size = builder.whole_size
        self.written.append(builder.id)
        self.used.add(builder.id)
        self.added += size
        self._index.add(builder.id, size, self._sealer.author, builder.entries)
        for entry in builder.entries:
            del self._in_packs[entry.chunk]

    def _put(self, builder: PackBuilder) -> None:
        data = builder.finish()
        verify_pack(builder.id, data, self._sealer.opener)
        self._store.put(pack_key(builder.id), data)

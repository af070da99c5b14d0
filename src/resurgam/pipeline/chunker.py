"""Cuts a segment's bytes into content-defined chunks, in blocks of several MiB.

A block goes to a worker together with its cut points, so that no Python runs per chunk on the way. The last piece
of a block is carried over to the next one: the boundaries are the same as those of one pass over the whole
segment (tests/pipeline/test_chunker.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyfastcdc import FastCDC


@dataclass(frozen=True, slots=True)
class Cutting:
    """Sizes in bytes; `block` must be at least twice `maximum`."""

    minimum: int
    average: int
    maximum: int
    block: int


# Small chunks pay in dumps (design.md §2 has the measurements); large files gain little from them.
FINE = Cutting(16 << 10, 64 << 10, 256 << 10, 4 << 20)
COARSE = Cutting(256 << 10, 1 << 20, 4 << 20, 8 << 20)


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes with the lengths of the chunks they consist of."""

    data: memoryview
    lengths: tuple[int, ...]


class Chunker:
    """Collects one segment's bytes; `feed` and `finish` give the blocks that are ready."""

    def __init__(self, cutting: Cutting, seed: int = 0) -> None:
        self._cutting = cutting
        self._cdc = FastCDC(avg_size=cutting.average, min_size=cutting.minimum, max_size=cutting.maximum, seed=seed)
        self._parts: list[bytes | memoryview] = []
        self._size = 0

    def feed(self, *pieces: bytes | memoryview) -> Block | None:
        """Append bytes, which must not change afterwards: they are joined later."""
        self._parts += pieces
        for piece in pieces:
            self._size += len(piece)
        return self._cut(final=False) if self._size >= self._cutting.block else None

    def finish(self) -> Block | None:
        """The rest of the segment; the chunker is then ready for the next one."""
        return self._cut(final=True) if self._size else None

    def _cut(self, *, final: bool) -> Block | None:
        data = b"".join(self._parts)
        lengths = [piece.length for piece in self._cdc.cut_buf(memoryview(data))]
        if final:
            self._parts, self._size = [], 0
            return Block(memoryview(data), tuple(lengths))
        carried = lengths.pop()
        self._parts, self._size = [data[len(data) - carried :]], carried
        return Block(memoryview(data)[: len(data) - carried], tuple(lengths)) if lengths else None

"""The chunker: where the cuts are does not depend on how the bytes came in (docs/archive-format.md, 14 and 15)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyfastcdc import FastCDC

from resurgam.pipeline.chunker import COARSE, FINE, Block, Chunker, Cutting
from tests.sampling import randomness

SMALL = Cutting(256, 1024, 4096, 8192)
CUTTINGS = {"fine": FINE, "coarse": COARSE, "small": SMALL}


def blocks_of(chunker: Chunker, pieces: Iterable[bytes]) -> Iterator[Block]:
    for piece in pieces:
        if block := chunker.feed(piece):
            yield block
    if block := chunker.finish():
        yield block


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def one_pass(cutting: Cutting, data: bytes) -> list[int]:
    cdc = FastCDC(avg_size=cutting.average, min_size=cutting.minimum, max_size=cutting.maximum, seed=0)
    return [piece.length for piece in cdc.cut_buf(memoryview(data))]


def text(size: int, name: str) -> bytes:
    """Bytes that look like a dump: compressible, without long repeats."""
    random = randomness(name)
    rows: list[bytes] = []
    while size > 0:
        rows.append(
            b"%d\tA finding of %d\t%s\n" % (len(rows), random.getrandbits(40), random.randbytes(9).hex().encode())
        )
        size -= len(rows[-1])
    return b"".join(rows)[: size or None]


@pytest.mark.parametrize("name", CUTTINGS)
def test_blocks_cut_as_one_pass_over_the_whole_segment_does(name: str) -> None:
    cutting = CUTTINGS[name]
    data = text(3 * cutting.block + 12_345, name)
    for step in (cutting.block * 5, cutting.block, 65_536, 99_991):
        blocks = list(blocks_of(Chunker(cutting), [data[i : i + step] for i in range(0, len(data), step)]))
        assert b"".join(block.data for block in blocks) == data
        assert [length for block in blocks for length in block.lengths] == one_pass(cutting, data)


@given(
    st.integers(0, 40_000),
    st.lists(st.integers(0, 40_000), max_size=30),
    st.sampled_from([b"text", b"zeros", b"noise"]),
)
def test_any_splitting_gives_the_same_chunks(size: int, cuts: list[int], kind: bytes) -> None:
    whole = {b"text": text(size, "split"), b"zeros": bytes(size), b"noise": randomness("noise").randbytes(size)}[kind]
    blocks = list(blocks_of(Chunker(SMALL), split(whole, cuts)))
    assert b"".join(block.data for block in blocks) == whole
    lengths = [length for block in blocks for length in block.lengths]
    assert lengths == (one_pass(SMALL, whole) if whole else [])
    assert all(sum(block.lengths) == len(block.data) for block in blocks)


@pytest.mark.parametrize("name", CUTTINGS)
def test_chunks_keep_to_their_sizes(name: str) -> None:
    """Sentence 15: between minimum and maximum, but for a segment's last; sentence 3: at most 16 MiB."""
    cutting = CUTTINGS[name]
    for data in (text(2 * cutting.block, "sizes"), bytes(2 * cutting.block)):
        lengths = [length for block in blocks_of(Chunker(cutting), [data]) for length in block.lengths]
        assert max(lengths) <= cutting.maximum <= 16 << 20
        assert min(lengths[:-1]) >= cutting.minimum


def test_a_chunker_starts_afresh_after_finish() -> None:
    data = text(50_000, "again")
    chunker = Chunker(SMALL)
    first = list(blocks_of(chunker, [data]))
    assert chunker.finish() is None
    assert list(blocks_of(chunker, [data])) == first


def test_nothing_fed_gives_no_block() -> None:
    assert Chunker(FINE).finish() is None
    assert list(blocks_of(Chunker(FINE), [b"", b""])) == []


def test_one_insertion_moves_few_boundaries() -> None:
    """What content-defined cuts are for: a later backup finds most chunks again."""
    data = text(4 << 20, "insertion")
    chunks = [set(chunk_bytes(data)), set(chunk_bytes(data[:1_000_000] + b"one more row\n" + data[1_000_000:]))]
    assert len(chunks[0] & chunks[1]) > 0.9 * len(chunks[0])


def chunk_bytes(data: bytes) -> Iterator[bytes]:
    for block in blocks_of(Chunker(FINE), [data]):
        position = 0
        for length in block.lengths:
            yield bytes(block.data[position : position + length])
            position += length

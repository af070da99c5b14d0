from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence

import pytest

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.index import Index
from resurgam.errors import DamagedError
from resurgam.repository.packs import CHUNK_ID
from resurgam.repository.records import Record, chunk_ids, framed


def record(ids: Sequence[bytes], name: bytes) -> bytes:
    entries = Index("")
    entries.add_entry(Entry(name, Kind.FILE, 0o644, mtime_ns=1, size=0), 1)
    return Record(entries, 20_000, chunks=bytearray(b"".join(ids)), lengths=array("I", [7] * len(ids))).encode()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1000, 1 << 20])
def test_the_ids_of_a_list_come_as_its_bytes_stream_by(size: int) -> None:
    rng = random.Random(1)
    runs = [[rng.randbytes(CHUNK_ID) for _ in range(count)] for count in (0, 1, 100, 0, 3)]
    data = b"".join(record(ids, b"%d" % number) for number, ids in enumerate(runs))
    pieces = list(chunk_ids(cut(data, size)))
    assert b"".join(pieces) == b"".join(one for ids in runs for one in ids)
    assert all(len(piece) % CHUNK_ID == 0 and len(piece) <= size + CHUNK_ID for piece in pieces)


def test_a_list_that_is_cut_anywhere_is_refused() -> None:
    whole = record([bytes(CHUNK_ID), b"\1" * CHUNK_ID], b"name")
    for end in range(1, len(whole)):
        with pytest.raises(DamagedError):
            list(chunk_ids([whole[:end]]))


def test_a_record_that_is_too_short_for_its_chunks_is_refused() -> None:
    body = record([bytes(CHUNK_ID)], b"name")[4:]
    many = body[:20] + b"\xff" * 4 + body[24:]
    for hostile in (framed(many), b"\xff" * 4 + body, framed(body[:8])):
        with pytest.raises(DamagedError):
            list(chunk_ids([hostile, bytes(1 << 16)]))

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence

import pytest

from resurgam.errors import DamagedError
from resurgam.repository.index_table import (
    DROPPED,
    ROW,
    IndexTable,
    TablePack,
    decode_index,
    encode_index,
    merged_rows,
    table_in_memory,
    table_of_pack,
)
from resurgam.repository.packs import PackEntry, sealed_size
from resurgam.repository.sealing import HEADER, Kind, Opener, Sealer
from tests.repository.fixed_keys import OBJECT, full_keys

_ROW = struct.Struct("<32s5I")


def entries_of(ids: Sequence[bytes]) -> list[PackEntry]:
    entries, offset = [], HEADER
    for number, name in enumerate(ids):
        entry = PackEntry(name, offset, sealed_size(100 + number), 1000 + number, 100 + number)
        offset += entry.sealed
        entries.append(entry)
    return entries


def random_ids(count: int, seed: int = 1) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(32) for _ in range(count)]


def named(number: int, blobs: int) -> TablePack:
    return TablePack(bytes([number]) * 16, 1 << 28, 1, blobs, 1)


def found(table: IndexTable, name: bytes) -> list[tuple[int, ...]]:
    rows: list[tuple[int, ...]] = []
    at = table.find(name)
    while at >= 0:
        rows.append(table.row(at)[1:])
        at = table.following(name, at)
    return rows


def crowded_ids(count: int) -> list[bytes]:
    """Ids as only somebody hostile would choose them: nearly all with one beginning."""
    return [b"\0" * 28 + struct.pack(">I", n) for n in range(count)] + random_ids(50)


def repeating_ids(count: int) -> list[bytes]:
    """Ids that also stand across the borders of rows, were rows not looked at as such."""
    return [bytes([n % 251]) * 32 for n in range(count)]


@pytest.mark.parametrize(
    "ids", [[], random_ids(1), random_ids(7), random_ids(5000), crowded_ids(3000), repeating_ids(250)]
)
def test_every_chunk_is_found_and_no_other(ids: list[bytes]) -> None:
    entries = entries_of(ids)
    table = table_of_pack(named(1, len(ids)), entries)
    for entry in entries:
        assert found(table, entry.chunk) == [(0, *entry[1:])]
    for name in random_ids(500, seed=2):
        assert table.find(name) == -1
    for name in ids[:200]:
        assert table.find(name[:-1] + bytes([name[-1] ^ 1])) == -1 or name[:-1] + bytes([name[-1] ^ 1]) in ids


@pytest.mark.parametrize(
    "ids", [[], random_ids(1), random_ids(7), random_ids(5000), crowded_ids(3000), repeating_ids(250)]
)
def test_many_at_once_are_found_as_one_by_one(ids: list[bytes]) -> None:
    """But for an id whose first four bytes another one has as well, which is lower."""
    rows_of = b"".join(sorted(_ROW.pack(one, *[0] * 5) for one in ids))
    table = table_in_memory([named(1, len(ids))], frozenset(), rows_of)
    asked = [*ids, *random_ids(500, seed=2), *(one[:-1] + bytes([one[-1] ^ 1]) for one in ids), b"\xff" * 32]
    rows, there = table.find_all(asked, table.prefixes())
    lowest = {one[:4]: one for one in sorted(ids, reverse=True)}
    for one, row, found_there in zip(asked, rows, there, strict=True):
        at = table.find(one)
        assert found_there == (at >= 0 and lowest[one[:4]] == one)
        assert not found_there or row == table.number(at)


def test_a_row_is_not_found_between_rows() -> None:
    """A chunk's id that spans two rows, or stands in the numbers of one, is not one that the table has."""
    row = _ROW.pack(b"\1" * 32, 0x01010101, 0x01010101, 0x01010101, 0x01010101, 0x01010101)
    table = table_in_memory([named(1, 2)], frozenset(), row + _ROW.pack(b"\2" * 32, *[0x02020202] * 5))
    assert found(table, b"\1" * 32) == [(0x01010101,) * 5]
    spanning = (row + b"\2" * 32)[40:72]
    assert table.find(spanning) == -1


def test_a_chunk_in_several_packs_has_several_rows() -> None:
    ids = random_ids(300)
    tables = [table_of_pack(named(number, 300), entries_of(ids)) for number in range(70)]
    packs = [table.packs[0] for table in tables]
    rows = b"".join(merged_rows([(table, [number]) for number, table in enumerate(tables)]))
    merged = table_in_memory(packs, frozenset(), rows)
    for entry in entries_of(ids):
        assert sorted(found(merged, entry.chunk)) == [(number, *entry[1:]) for number in range(70)]


def test_merging_gives_all_rows_once_in_order_and_leaves_out_dropped_packs() -> None:
    parts = [random_ids(20_000, seed) for seed in range(3)]
    tables = [table_of_pack(named(number, 20_000), entries_of(ids)) for number, ids in enumerate(parts)]
    rows = b"".join(merged_rows([(tables[0], [1]), (tables[1], [DROPPED]), (tables[2], [0])]))
    cut = [rows[at : at + ROW] for at in range(0, len(rows), ROW)]
    expected = [_ROW.pack(e.chunk, 1, *e[1:]) for e in entries_of(parts[0])]
    expected += [_ROW.pack(e.chunk, 0, *e[1:]) for e in entries_of(parts[2])]
    assert cut == sorted(expected)


def test_an_index_comes_back_as_it_was() -> None:
    parts = [random_ids(3000, seed) for seed in range(3)]
    packs = [named(number, 3000) for number in range(3)]
    sources = [
        (table_of_pack(pack, entries_of(ids)), [number])
        for number, (pack, ids) in enumerate(zip(packs, parts, strict=True))
    ]
    data = encode_index(Sealer(full_keys()), OBJECT, packs, merged_rows(sources))
    table = decode_index(Opener(full_keys()), OBJECT, bytes(data))
    assert (table.packs, table.indexes, table.count) == (tuple(packs), frozenset([OBJECT]), 9000)
    for number, ids in enumerate(parts):
        for entry in entries_of(ids)[::17]:
            assert found(table, entry.chunk) == [(number, *entry[1:])]
    plain = Opener(full_keys()).open_text(Kind.INDEX, OBJECT, data)
    (length,) = struct.unpack_from("<I", plain)
    assert json.loads(plain[4 : 4 + length]) == {"packs": [[p.pack.hex(), p.size, 1, 3000] for p in packs]}
    assert len(plain) == 4 + length + 52 * 9000


def index_of(packs: object, rows: Sequence[bytes], head: bytes | None = None) -> bytes:
    """An index as somebody who holds the keys, and is hostile or wrong, would write it."""
    listed = json.dumps({"packs": packs}).encode() if head is None else head
    plain = struct.pack("<I", len(listed)) + listed + b"".join(rows)
    return bytes(Sealer(full_keys()).seal_text(Kind.INDEX, OBJECT, plain))


PACK = ["01" * 16, 1 << 20, 1, 2]
SOUND = (224, sealed_size(100), 1000, 100)
LOW, HIGH = b"\1" * 32, b"\2" * 32
ROWS = [_ROW.pack(LOW, 0, *SOUND), _ROW.pack(HIGH, 0, *SOUND)]


def test_the_index_that_hostile_ones_differ_from_is_sound() -> None:
    assert decode_index(Opener(full_keys()), OBJECT, index_of([PACK], ROWS)).count == 2


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[:1],
        [*ROWS, ROWS[1]],
        [ROWS[0], ROWS[0]],
        [ROWS[1], ROWS[0]],
        [*ROWS, b"\0"],
        [ROWS[0], _ROW.pack(HIGH, 1, *SOUND)],
        [ROWS[0], _ROW.pack(HIGH, 0, 223, *SOUND[1:])],
        [ROWS[0], _ROW.pack(HIGH, 0, (1 << 20) - 100, *SOUND[1:])],
        [ROWS[0], _ROW.pack(HIGH, 0, (1 << 32) - 1, *SOUND[1:])],
        [ROWS[0], _ROW.pack(HIGH, 0, 224, SOUND[1], 0, 100)],
        [ROWS[0], _ROW.pack(HIGH, 0, 224, SOUND[1], (16 << 20) + 1, 100)],
        [ROWS[0], _ROW.pack(HIGH, 0, 224, SOUND[1] + 1, 1000, 100)],
        [ROWS[0], _ROW.pack(HIGH, 0, 224, SOUND[1] + 128, 1000, 100)],
        [ROWS[0], _ROW.pack(HIGH, 0, 224, SOUND[1], 1000, 200)],
        [ROWS[0], _ROW.pack(HIGH, 0, 224, 144, 1000, 2)],
    ],
)
def test_a_hostile_index_is_refused(rows: Sequence[bytes]) -> None:
    with pytest.raises(DamagedError, match="index"):
        decode_index(Opener(full_keys()), OBJECT, index_of([PACK], rows))


@pytest.mark.parametrize(
    "packs",
    [
        [],
        [PACK, PACK],
        [["01" * 15, 1 << 20, 1, 2]],
        [["xx" * 16, 1 << 20, 1, 2]],
        [["01" * 16, 1 << 30, 1, 2]],
        [["01" * 16, 0, 1, 2]],
        [["01" * 16, 1 << 20, 3, 2]],
        [["01" * 16, 1 << 20, True, 2]],
        [["01" * 16, 1 << 20, 1, -2]],
        [["01" * 16, 1 << 20, 1, 3]],
        [["01" * 16, 1 << 20, 1, 2.0]],
        [["01" * 16, 1 << 20, 1]],
        [17],
        17,
        None,
    ],
)
def test_a_hostile_list_of_packs_is_refused(packs: object) -> None:
    with pytest.raises(DamagedError, match="index"):
        decode_index(Opener(full_keys()), OBJECT, index_of(packs, ROWS))


@pytest.mark.parametrize("head", [b"", b"{}", b"[]", b"[" * 100_000, b"\xff", b'{"packs":{"a":1}}'])
def test_a_malformed_head_is_refused(head: bytes) -> None:
    with pytest.raises(DamagedError, match="index"):
        decode_index(Opener(full_keys()), OBJECT, index_of(None, ROWS, head))


def test_an_index_that_is_cut_within_its_head_is_refused() -> None:
    for plain in (b"", b"\1\0", struct.pack("<I", 1 << 31) + b"{}"):
        data = bytes(Sealer(full_keys()).seal_text(Kind.INDEX, OBJECT, plain))
        with pytest.raises(DamagedError, match="index"):
            decode_index(Opener(full_keys()), OBJECT, data)

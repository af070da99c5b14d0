"""The index: what goes in comes out, and a hostile one with right digests is refused (16 and 17)."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.headers import BLOCK, build, padding
from resurgam.archive.index import DIGEST, Index
from resurgam.errors import DamagedError
from resurgam.pipeline.codec import member
from tests.archive.trees import NAME, NOW, Planned, noise, trees
from tests.sampling import randomness

HEADER = struct.calcsize("<4sHHQQ")


def indexed(plan: list[Planned]) -> Index:
    index = Index(NAME)
    index.add_entry(Entry(b"", Kind.FOLDER, 0o755), 1)
    for planned in plan:
        head = build(planned.entry, NAME.encode())
        index.add_entry(planned.entry, len(head) // BLOCK, noise(16, len(head)))
    index.add_chunk(512, 40, noise(DIGEST), 7)
    index.add_chunk(70_000, 20_000, noise(DIGEST, 9), 1 << 31)
    return index


@given(trees(sizes=(0, 1, 512, 70_000)))
def test_what_goes_in_comes_out(plan: list[Planned]) -> None:
    index = indexed(plan)
    data = b"".join(index.encode())
    decoded = Index.decode(data)
    assert list(decoded.entries()) == list(index.entries())
    assert [found.entry for found in decoded.entries()][1:] == [planned.entry for planned in plan]
    assert b"".join(decoded.encode()) == data
    assert list(decoded.chunk_checks) == [7, 1 << 31]
    assert decoded.chunk_digest(1) == noise(DIGEST, 9)


@given(trees(sizes=(0, 1, 512, 513)))
def test_sentence_17_places_follow_from_headers_and_sizes(plan: list[Planned]) -> None:
    offset = BLOCK
    for planned, found in zip(plan, list(indexed(plan).entries())[1:], strict=True):
        offset += len(build(planned.entry, NAME.encode()))
        assert found.offset == offset
        offset += planned.entry.size + padding(planned.entry.size)


def sections(data: bytes) -> list[bytes]:
    found, position = [], HEADER
    while position < len(data):
        (size,) = struct.unpack_from("<Q", data, position)
        found.append(data[position + 8 : position + 8 + size])
        position += 8 + size
    return found


def joined(head: bytes, parts: list[bytes]) -> bytes:
    return head + b"".join(struct.pack("<Q", len(part)) + part for part in parts)


PLAN = [Planned(Entry(b"a", Kind.FILE, 0o644, size=3, mtime_ns=NOW)), Planned(Entry(b"b", Kind.FOLDER, 0o755))]
DATA = b"".join(indexed(PLAN).encode())
HEAD, PARTS = DATA[:HEADER], sections(DATA)


def test_the_layout_is_that_of_the_page() -> None:
    """Sentence 16, its table: the lengths of the sections in their order."""
    widths = [1, 1, 2, 4, 8, 8, 2, 16]
    assert [len(part) for part in PARTS[1:9]] == [3 * width for width in widths]
    assert PARTS[9:11] == [b"\0a\0b\0", b"\0\0\0"]
    assert [len(part) for part in PARTS[11:]] == [8, 8, 8, 32]
    assert struct.unpack("<4sHHQQ", HEAD) == (b"RSIX", 1, 0, 3, 2)
    assert json.loads(PARTS[0])["backup_name"] == NAME


def changed(number: int, content: bytes) -> Callable[[], bytes]:
    return lambda: joined(HEAD, [*PARTS[:number], content, *PARTS[number + 1 :]])


def head(**more: object) -> bytes:
    return json.dumps({**json.loads(PARTS[0]), **more}).encode()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "short": lambda: DATA[: HEADER - 1],
    "cut": lambda: DATA[:-1],
    "longer": lambda: DATA + b"\0",
    "other magic": lambda: b"RSIY" + DATA[4:],
    "later version": lambda: DATA[:4] + b"\2" + DATA[5:],
    "more entries": lambda: joined(struct.pack("<4sHHQQ", b"RSIX", 1, 0, 4, 2), PARTS),
    "fewer entries": lambda: joined(struct.pack("<4sHHQQ", b"RSIX", 1, 0, 2, 2), PARTS),
    "2^63 entries": lambda: joined(struct.pack("<4sHHQQ", b"RSIX", 1, 0, 1 << 63, 2), PARTS),
    "fewer chunks": lambda: joined(struct.pack("<4sHHQQ", b"RSIX", 1, 0, 3, 1), PARTS),
    "a section less": lambda: joined(HEAD, PARTS[:-1]),
    "a section more": lambda: joined(HEAD, [*PARTS, b""]),
    "a section's length lies": lambda: HEAD + struct.pack("<Q", 1 << 63) + DATA[HEADER + 8 :],
    "nothing but lengths": lambda: HEAD + bytes(8 << 16),
    "no entries": lambda: joined(struct.pack("<4sHHQQ", b"RSIX", 1, 0, 0, 2), [PARTS[0], *[b""] * 10, *PARTS[11:]]),
    "no chunks": lambda: joined(struct.pack("<4sHHQQ", b"RSIX", 1, 0, 3, 0), [*PARTS[:11], *[b""] * 4]),
    "no json": changed(0, b"{"),
    "a list": changed(0, b"[]"),
    "deep json": changed(0, b"[" * 100_000),
    "no name": changed(0, b'{"owners": []}'),
    "owner of text": changed(0, head(owners=[["0", 0, "", ""]])),
    "owner below zero": changed(0, head(owners=[[-1, 0, "", ""]])),
    "owner too large": changed(0, head(owners=[[1 << 32, 0, "", ""]])),
    "owner twice": changed(0, head(owners=[[0, 0, "", ""], [0, 0, "", ""]])),
    "no owners": changed(0, head(owners=[])),
    "unknown kind": changed(1, b"506"),
    "a file on top": changed(1, b"005"),
    "unknown owner": changed(4, struct.pack("<3I", 0, 0, 1)),
    "huge size": changed(6, struct.pack("<3Q", 0, (1 << 64) - 1, 0)),
    "no top folder": changed(9, b"x\0a\0b\0"),
    "two top folders": changed(9, b"\0\0b\0"),
    "name without end": changed(9, b"\0a\0b"),
    "more names": changed(9, b"\0a\0b\0c\0"),
    "fewer targets": changed(10, b"\0\0"),
    "chunk of no bytes": changed(11, struct.pack("<2I", 512, 0)),
    "chunk over 16 MiB": changed(11, struct.pack("<2I", 512, (16 << 20) + 1)),
    "member of no bytes": changed(12, struct.pack("<2I", 40, 0)),
    "member of 4 GiB": changed(12, struct.pack("<2I", 40, (1 << 32) - 1)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_is_refused(name: str) -> None:
    with pytest.raises(DamagedError):
        Index.decode(HOSTILE[name]())


@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=8))
def test_any_change_is_decoded_or_refused(at: int, change: bytes) -> None:
    try:
        index = Index.decode(DATA[:at] + change + DATA[at + len(change) :])
        list(index.entries())
    except DamagedError:
        return


@pytest.mark.soak
def test_a_million_entries_are_stored_under_50_mb(record_property: Callable[[str, object], None]) -> None:
    """Design 2; a backup of 22 GB in files, random digests, times and sizes."""
    index, random = Index(NAME), randomness("million")
    index.add_entry(Entry(b"", Kind.FOLDER, 0o755), 1)
    for i in range(1_000_000):
        path = b"files/uploads/2024/%03d/%02d/report_%06d.pdf" % (i // 10_000, i // 1_000 % 10, i)
        entry = Entry(
            path, Kind.FILE, 0o640, 33, 33, "www", "www", NOW + random.randrange(10**17), random.randrange(60_000)
        )
        index.add_entry(entry, 1, random.randbytes(16))
    for _ in range(350_000):
        index.add_chunk(
            random.randrange(1 << 14, 1 << 18),
            random.randrange(4_000, 100_000),
            random.randbytes(DIGEST),
            random.getrandbits(32),
        )
    stored = sum(
        len(member(memoryview(section)[start : start + (1 << 20)]))
        for section in index.encode()
        for start in range(0, len(section), 1 << 20)
    )
    record_property("stored bytes", stored)
    assert stored < 50_000_000

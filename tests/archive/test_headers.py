"""Headers: others read ours as they were meant, ours read others', and malformed ones are refused (9 to 13)."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.headers import BLOCK, HeaderParser, build, padding
from resurgam.archive.tarstream import walk_tar
from resurgam.errors import ArchiveError, DamagedError, HostileError
from tests.archive.trees import SECOND, Planned, trees

TOP = "radiology_backup_20250104_143022"
LIMIT = 1 << 62


def parse(raw: bytes) -> Entry:
    """The one entry whose header blocks these are."""
    parser, position = HeaderParser(), 0
    while True:
        found = parser.header(raw[position : position + BLOCK])
        position += BLOCK
        if isinstance(found, Entry):
            assert position == len(raw)
            return found
        assert isinstance(found, int)
        parser.extension(raw[position : position + found])
        position += found + padding(found)


def by_tarfile(raw: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(raw + bytes(1024)), errors="surrogateescape") as archive:
        member = archive.next()
    assert member is not None
    return member


@given(trees(sizes=(0, 1, (1 << 33) - 1, 1 << 33, 1 << 40)[:2], most=6))
def test_sentence_9_tarfile_reads_every_field(plan: list[Planned]) -> None:
    for planned in plan:
        entry = planned.entry
        member = by_tarfile(build(entry, TOP.encode()))
        assert member.name.encode("utf-8", "surrogateescape") == TOP.encode() + b"/" + entry.path
        assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
        assert member.mtime == entry.mtime_ns // SECOND
        assert member.type == entry.kind.value
        if entry.kind is Kind.SYMLINK:
            assert member.linkname.encode("utf-8", "surrogateescape") == entry.target


@given(trees(sizes=(0,), most=6), st.sampled_from([0, 1, 8**11 - 1, 8**11, 1 << 40]))
def test_what_is_built_is_parsed(plan: list[Planned], size: int) -> None:
    for entry in (planned.entry for planned in plan):
        entry = entry._replace(size=size if entry.kind is Kind.FILE else 0)
        parsed = parse(build(entry, TOP.encode()))
        top = TOP.encode() + b"/"
        target = top + entry.target if entry.kind is Kind.HARDLINK else entry.target
        assert (parsed.path, parsed.kind, parsed.size, parsed.target) == (
            top + entry.path,
            entry.kind,
            entry.size,
            target,
        )
        assert (parsed.mode, parsed.uid, parsed.gid) == (entry.mode, entry.uid, entry.gid)


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 8 << 30, 1 << 50])
def test_sentence_13_a_dump_of_any_size_has_one_header_block(size: int) -> None:
    raw = build(Entry(b"database_20250104_143022.sql", Kind.FILE, 0o600, size=size), TOP.encode())
    assert len(raw) == BLOCK
    assert by_tarfile(raw).size == size


@pytest.mark.parametrize("length", [*range(60, 72), *range(95, 105), *range(215, 230), *range(250, 262), 1_000, 4_000])
@pytest.mark.parametrize("part", [10, 99, 100, 101, 155])
@pytest.mark.parametrize("kind", [Kind.FILE, Kind.FOLDER])
def test_names_around_the_fields_limits(length: int, part: int, kind: Kind) -> None:
    path = b"/".join([b"p" * part] * (length // (part + 1) + 1))[:length].strip(b"/")
    raw = build(Entry(path, kind, 0o644), TOP.encode())
    assert by_tarfile(raw).name == f"{TOP}/{path.decode()}"
    assert parse(raw).path == f"{TOP}/{path.decode()}".encode()


def test_a_name_of_bytes_says_so_also_if_joined_to_its_target_it_would_be_text() -> None:
    """Sentence 9: `hdrcharset=BINARY`; the path ends and the target begins in half a character."""
    entry = Entry(b"x" * 200 + b"\xc3", Kind.SYMLINK, 0o777, target=b"\xa9" + b"y" * 200)
    raw = build(entry, TOP.encode())
    assert b"hdrcharset=BINARY" in raw
    assert (parse(raw).path, parse(raw).target) == (TOP.encode() + b"/" + entry.path, entry.target)


def patched(at: int, data: bytes, entry: Entry | None = None) -> bytes:
    """A header with some bytes replaced, and its checksum right."""
    raw = bytearray(build(entry or Entry(b"name", Kind.FILE, 0o644, size=5), b"top"))
    raw[at : at + len(data)] = data
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


NUMBERS = [b"-0000001\0", b"0000_001\0", b"+000001\0", b"0x1\0", b"99999999999\0", b"1 2\0", b"\xb2\0"]


@pytest.mark.parametrize("at", [100, 108, 116, 124, 136])
@pytest.mark.parametrize("number", NUMBERS)
def test_a_malformed_number_is_refused(at: int, number: bytes) -> None:
    width = 12 if at >= 124 else 8
    with pytest.raises(ArchiveError):
        parse(patched(at, number.ljust(width, b"\0")[:width]))


@pytest.mark.parametrize(
    "field", [b"\xff" * 12, b"\xff" + bytes(11), b"\x80" + b"\xff" * 11, b"\x80\0\0\0@" + bytes(7)]
)
def test_an_impossible_size_is_refused(field: bytes) -> None:
    with pytest.raises(HostileError):
        parse(patched(124, field))


@pytest.mark.parametrize("field", [b"\x80" + b"\xff" * 11, b"\xff" + bytes(11)])
def test_a_time_beyond_64_bits_is_the_nearest_one(field: bytes) -> None:
    assert abs(parse(patched(136, field)).mtime_ns) in ((1 << 63) - 1, 1 << 63)


@given(st.binary(min_size=BLOCK, max_size=BLOCK))
def test_any_block_is_parsed_or_refused(block: bytes) -> None:
    raw = bytearray(block)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    try:
        found = HeaderParser().header(bytes(raw))
    except ArchiveError:
        return
    assert found is None or isinstance(found, (int, Entry))


@given(st.integers(0, 511), st.integers(0, 255))
def test_a_changed_byte_of_a_header_is_damage(at: int, value: int) -> None:
    raw = bytearray(build(Entry(b"name", Kind.FILE, 0o644, size=5), b"top"))
    # The checksum field itself is written in several ways that mean the same.
    assume(raw[at] != value and not 148 <= at < 156)
    raw[at] = value
    with pytest.raises(DamagedError):
        HeaderParser().header(bytes(raw))


def extended(flag: bytes, body: bytes, size: int | None = None) -> bytes:
    head = bytearray(patched(156, flag, Entry(b"x", Kind.FILE, 0o644, size=len(body) if size is None else size)))
    return bytes(head) + body + bytes(padding(len(body))) + build(Entry(b"name", Kind.FILE, 0o644, size=5), b"top")


def record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d %b=%b\n" % (length, key, value)) != length:
        length += 1
    return b"%d %b=%b\n" % (length, key, value)


MALFORMED = [
    b"5 a=b\n",
    b"99 path=x\n",
    b"0 path=x\n",
    b"-9 path=x\n",
    b"path=x\n",
    b"10 path=xy ",
    b"\n",
    b" 9 path=x\n",
]
MALFORMED += [b"9999999999999999999999 path=x\n", b"8 path x\n", b"9 path=x"]
LIES = [
    (b"size", b"-1"),
    (b"size", b"1e9"),
    (b"size", b"9" * 19),
    (b"size", b"9" * 4000),
    (b"uid", b"x"),
    (b"size", b""),
]
LIES += [
    (b"mtime", b"now"),
    (b"mtime", b"1." + b"x"),
    (b"mtime", b"9" * 13),
    (b"mtime", b"--1"),
    (b"path", b"top/a\0b"),
]


@pytest.mark.parametrize("body", MALFORMED + [record(*lie) for lie in LIES])
@pytest.mark.parametrize("flag", [b"x", b"g"])
def test_a_malformed_pax_header_is_refused(flag: bytes, body: bytes) -> None:
    with pytest.raises(ArchiveError):
        parse(extended(flag, body))


@given(st.binary(max_size=80), st.sampled_from([b"x", b"g", b"L", b"K"]))
def test_any_extension_is_taken_or_refused(body: bytes, flag: bytes) -> None:
    try:
        parse(extended(flag, body))
    except ArchiveError:
        return


def test_records_of_others_are_passed_over() -> None:
    """Extended attributes hold any bytes, NUL too (`tar --xattrs`, bsdtar's default)."""
    body = record(b"SCHILY.xattr.user.a", b"\0\xff\n\0") + record(b"comment", b"x") + record(b"mtime", b"-1.5")
    assert parse(extended(b"x", body)).mtime_ns == -1_500_000_000


@pytest.mark.parametrize("size", [(256 << 10) + 1, 1 << 30, 1 << 61])
@pytest.mark.parametrize("flag", [b"x", b"g", b"L", b"K"])
def test_a_huge_extension_is_refused_before_it_is_read(flag: bytes, size: int) -> None:
    with pytest.raises(HostileError):
        HeaderParser().header(extended(flag, b"", size)[:BLOCK])


@pytest.mark.parametrize("key", [b"GNU.sparse.major", b"GNU.sparse.map", b"GNU.sparse.realsize"])
def test_sparse_entries_of_gnu_tar_are_refused(key: bytes) -> None:
    with pytest.raises(HostileError, match="sparse"):
        parse(extended(b"x", record(key, b"1")))


@pytest.mark.parametrize("flag", [b"3", b"4", b"6", b"S", b"V", b"M", b"D", b"X", b"A", b"\xff"])
def test_sentence_12_other_kinds_are_refused(flag: bytes) -> None:
    with pytest.raises(HostileError):
        parse(patched(156, flag))


def test_many_extensions_take_no_memory() -> None:
    """Global records of ever new names are not kept."""
    parser = HeaderParser()
    for i in range(2_000):
        body = record(b"key%d" % i, b"v" * 900)
        parser.header(extended(b"g", body)[:BLOCK])
        parser.extension(body)
    assert len(parser._global) == 0


def test_an_extension_before_the_end_is_damage() -> None:
    raw = extended(b"x", record(b"path", b"top/x"))[: 2 * BLOCK] + bytes(2 * BLOCK)
    with pytest.raises(DamagedError):
        list(walk_tar([raw], b"top"))

"""Hostile archives: refused with the reason, quickly, with little memory, whatever digests they bring along."""

from __future__ import annotations

import gzip
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.footer import Footer
from resurgam.archive.headers import build, padding
from resurgam.archive.names import NameRegister, check_path
from resurgam.archive.opening import open_archive
from resurgam.errors import ArchiveError, HostileError
from resurgam.pipeline.codec import member as gzip_member
from tests.archive.forging import Forged, forged, write_forged
from tests.archive.tars import member, packed, tar
from tests.archive.trees import NAME, NOW, metadata_bytes, walked

REG, SYM, LNK, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
Members = list[tuple[tarfile.TarInfo, bytes]]
IN = f"{NAME}/files"

HOSTILE: dict[str, Members] = {
    "absolute": [member("/etc/passwd", content=b"x")],
    "absolute below the top": [member(f"{NAME}//etc/passwd", content=b"x")],
    "parent": [member("../evil", content=b"x")],
    "parent inside": [member(f"{IN}/../../evil", content=b"x")],
    "parent at the end": [member(f"{IN}/..", DIR)],
    "dot inside": [member(f"{IN}/./a", content=b"x")],
    "another top": [member("other/file", content=b"x")],
    "a top that begins alike": [member(f"{NAME}-not/file", content=b"x")],
    "a device": [member(f"{IN}/null", tarfile.CHRTYPE)],
    "a block device": [member(f"{IN}/sda", tarfile.BLKTYPE)],
    "a fifo": [member(f"{IN}/fifo", tarfile.FIFOTYPE)],
    "a contiguous file twice": [member(f"{IN}/c", tarfile.CONTTYPE), member(f"{IN}/c")],
    "a duplicate": [member(f"{IN}/a", content=b"1"), member(f"{IN}/a", content=b"2")],
    "a duplicate folder": [member(f"{IN}/a", DIR), member(f"{IN}/a", DIR)],
    "a folder over a file": [member(f"{IN}/a", content=b"1"), member(f"{IN}/a", DIR)],
    "a file over a folder": [member(f"{IN}/a/b", content=b"1"), member(f"{IN}/a", content=b"1")],
    "a link over a folder": [member(f"{IN}/a/b", content=b"1"), member(f"{IN}/a", SYM, target="/etc")],
    "below a file": [member(f"{IN}/a", content=b"1"), member(f"{IN}/a/b", content=b"2")],
    "below a symlink": [member(f"{IN}/a", SYM, target="/etc"), member(f"{IN}/a/passwd", content=b"2")],
    "deep below a symlink": [member(f"{IN}/a", SYM, target="/"), member(f"{IN}/a/etc/passwd", content=b"2")],
    "below a hard link": [member(f"{IN}/a"), member(f"{IN}/b", LNK, target=f"{IN}/a"), member(f"{IN}/b/c")],
    "metadata as a link": [member(f"{NAME}/backup_metadata.json", SYM, target="/etc/passwd")],
    "hard link to nothing": [member(f"{IN}/b", LNK, target=f"{IN}/a")],
    "hard link to a later file": [member(f"{IN}/b", LNK, target=f"{IN}/a"), member(f"{IN}/a")],
    "hard link out": [member(f"{IN}/b", LNK, target="/etc/passwd")],
    "hard link up": [member(f"{IN}/b", LNK, target=f"{IN}/../../../etc/passwd")],
    "hard link to itself": [member(f"{IN}/b", LNK, target=f"{IN}/b")],
    "hard link to a symlink": [member(f"{IN}/s", SYM, target="/etc"), member(f"{IN}/b", LNK, target=f"{IN}/s")],
    "hard link to a folder": [member(f"{IN}/d", DIR), member(f"{IN}/b", LNK, target=f"{IN}/d")],
    "hard link to the top": [member(f"{IN}/b", LNK, target=NAME)],
    "symlink to nothing": [member(f"{IN}/s", SYM)],
    "symlink too long": [member(f"{IN}/s", SYM, target="t" * 5_000)],
    "a part too long": [member(f"{IN}/" + "n" * 256)],
    "a path too long": [member(f"{IN}/" + "/".join(["n" * 200] * 21))],
    "10,000 deep": [member(f"{IN}/" + "d/" * 10_000 + "f")],
    "250 deep": [member(f"{IN}/" + "d/" * 250 + "f")],
    "the top twice": [member(NAME, DIR)],
    "the top as a link": [member(NAME, SYM, target="/")],
    "the top as a file": [member(NAME, content=b"x")],
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_is_refused(tmp_path: Path, name: str, form: int) -> None:
    with pytest.raises(ArchiveError) as caught, open_archive(packed(tmp_path, tar(HOSTILE[name], form))) as archive:
        for _, blocks in archive.walk():
            list(blocks)
    assert isinstance(caught.value, HostileError)
    assert caught.value.message.endswith(".")


def test_links_that_lead_out_are_kept_as_they_are(tmp_path: Path) -> None:
    """They are saved and restored, and never followed; only what would be written through them is refused."""
    members = [member(f"{IN}/{i}", SYM, target=to) for i, to in enumerate(["/etc/passwd", "../../..", "nowhere", "."])]
    with open_archive(packed(tmp_path, tar(members))) as archive:
        targets = [entry.target for entry in archive.entries() if entry.kind is Kind.SYMLINK]
    assert targets == [b"/etc/passwd", b"../../..", b"nowhere", b"."]


@pytest.mark.parametrize(
    "path", [b"", b"/", b"a/", b"a//b", b".", b"..", b"a/.", b"./a", b"a/../b", b"a\0", b"a/" * 200 + b"b"]
)
def test_an_unsafe_path_is_refused(path: bytes) -> None:
    with pytest.raises(HostileError):
        check_path(path)


@pytest.mark.parametrize(
    "path", [b"...", b"..a", b"a..", b".a", b"a/.../b", b"\xff", b"a\nb", b"a/" * 199 + b"b", b"n" * 255, b"~"]
)
def test_an_odd_but_safe_path_is_taken(path: bytes) -> None:
    check_path(path)


def test_what_a_register_refuses_does_not_depend_on_the_order() -> None:
    for first, second in ((b"a", b"a/b"), (b"a/b", b"a")):
        register = NameRegister()
        register.admit(Entry(first, Kind.FILE, 0o644))
        with pytest.raises(HostileError):
            register.admit(Entry(second, Kind.FILE, 0o644))


_BOMBED = """
import re, sys, time
from pathlib import Path
from resurgam.archive.opening import open_archive
from resurgam.errors import ArchiveError
begun = time.monotonic()
for use in ("metadata", "entries", "walk"):
    try:
        with open_archive(Path(sys.argv[1])) as archive:
            for item in getattr(archive, use)():
                pass
    except ArchiveError as error:
        continue
    sys.exit("not refused")
print(time.monotonic() - begun, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
"""


def bomb(head: bytes = b"", size: int = 10 << 30) -> bytes:
    """`head` and then zeros; deflate repeats itself, so the middle is made once."""
    if head:
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        return (
            packer.compress(head)
            + b"".join(packer.compress(bytes(16 << 20)) for _ in range(size >> 24))
            + packer.flush()
        )
    return gzip.compress(bytes(64 << 20)) * (size >> 26)


def index_bomb(made: Forged) -> None:
    """An index of a few MB that would take three GB to decompress."""
    more = 3 << 30
    zeros = gzip.compress(bytes(64 << 20), mtime=0) * (more >> 26)
    made.index_members = lambda data: gzip_member(data) + zeros
    made.footer = lambda footer: replace(footer, index_plain=footer.index_plain + more)


def oversized(size: int) -> bytes:
    return build(Entry(b"files/zeros", Kind.FILE, 0o644, size=size), NAME.encode())


@pytest.mark.parametrize("kind", ["zeros", "a large file", "an index"])
def test_a_bomb_is_refused_quickly_with_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    if kind == "zeros":
        path.write_bytes(bomb())
    elif kind == "a large file":
        path.write_bytes(bomb(oversized(10 << 30), 1 << 30))
    else:
        write_forged(path, forged(index_bomb))
    run = subprocess.run([sys.executable, "-c", _BOMBED, path], check=True, capture_output=True, text=True)
    seconds, peak = run.stdout.split()
    assert float(seconds) < 8
    assert int(peak) < 120 << 10


def changed(number: int, **more: object) -> Callable[[Forged], object]:
    """The index tells something else of an entry than the stream."""

    def lie(made: Forged) -> None:
        made.streamed = list(made.entries)
        made.entries[number] = made.entries[number]._replace(**more)  # type: ignore[arg-type]
        made.contents.setdefault(made.entries[number].path, b"")

    return lie


def put(name: str, value: object) -> Callable[[Forged], object]:
    return lambda made: setattr(made, name, value)


def both(*lies: Callable[[Forged], object]) -> Callable[[Forged], object]:
    return lambda made: [lie(made) for lie in lies]


def insert(entry: Entry, content: bytes = b"") -> Callable[[Forged], object]:
    """An entry that stands in the index and in the stream."""

    def lie(made: Forged) -> None:
        made.entries.insert(2, entry)
        made.contents[entry.path] = content

    return lie


def shift(at: int, by: int) -> Callable[[list[int]], list[int]]:
    return lambda values: [*values[:at], values[at] + by, *values[at + 1 :]]


def swap(at: int, by: int) -> Callable[[list[int]], list[int]]:
    return lambda values: [*values[:at], values[at] + by, values[at + 1] - by, *values[at + 2 :]]


def foot(**more: int) -> Callable[[Forged], object]:
    def lie(footer: Footer) -> Footer:
        return replace(footer, **{key: getattr(footer, key) + value for key, value in more.items()})

    return put("footer", lie)


LIES: dict[str, Callable[[Forged], object]] = {
    "a path differs": changed(1, path=b"A"),
    "a mode differs": changed(1, mode=0o4755),
    "an owner differs": changed(1, uid=1),
    "a group's name differs": changed(1, gname="wheel"),
    "a second differs": changed(1, mtime_ns=NOW + 1_000_000_000),
    "a target differs": changed(2, target=b"/etc/passwd"),
    "a kind differs": changed(2, kind=Kind.HARDLINK),
    "a size differs": changed(1, size=999),
    "a size is huge": changed(1, size=1 << 50),
    "a symlink has bytes": changed(2, size=512),
    "a content differs": put(
        "index_bytes", lambda data: data.replace(blake3(b"0123456789" * 100).digest(16), bytes(16))
    ),
    "an entry more in the stream": lambda made: put(
        "streamed", [*made.entries[:2], Entry(b"c", Kind.FILE, 0o644, mtime_ns=NOW), *made.entries[2:]]
    )(made),
    "an entry less in the stream": lambda made: put("streamed", [*made.entries[:2], *made.entries[3:]])(made),
    "another order": lambda made: put("streamed", [made.entries[0], made.entries[2], made.entries[1], made.entries[3]])(
        made
    ),
    "no metadata": lambda made: made.entries.pop(),
    "a header more": put("headers", lambda blocks: blocks + 1),
    "no headers": put("headers", lambda blocks: 0),
    "a chunk is longer": put("lengths", shift(2, 512)),
    "a chunk is shorter": put("lengths", shift(2, -512)),
    "a member inflates beyond": put("lengths", swap(2, -512)),
    "chunks overlap in the file": put("stored", swap(2, 5)),
    "a chunk is longer in the file": put("stored", shift(2, 1)),
    "a chunk lies outside": put("stored", shift(4, 1_000_000)),
    "a chunk less": put("lengths", lambda values: values[:-1]),
    "the index is longer than told": put("index_bytes", lambda data: data + b"\0" * 8),
    "the index inflates beyond": put("index_members", lambda data: gzip_member(data + b"x")),
    "the index inflates less": put("index_members", lambda data: gzip_member(data[:-1])),
    "the index is no gzip": put("index_members", lambda data: b"x" * len(data)),
    "a duplicate": insert(Entry(b"a", Kind.FILE, 0o644, size=1000), b"0123456789" * 100),
    "a parent": insert(Entry(b"../a", Kind.FILE, 0o644)),
    "below a link": both(
        insert(Entry(b"l/x", Kind.FILE, 0o644)), insert(Entry(b"l", Kind.SYMLINK, 0o777, target=b"/"))
    ),
    "a hard link to nothing": insert(Entry(b"h", Kind.HARDLINK, 0o644, target=b"z")),
    "a top folder more": insert(Entry(b"", Kind.FOLDER, 0o755)),
    "one end block": put("end", bytes(512)),
    "no end blocks": put("end", b"x" * 512),
    "data after the end": put("after", b"x" * 512),
    "the stream is longer": foot(stream=512),
    "the stream is shorter": foot(stream=-512),
    "the footer is elsewhere": foot(offset=1),
    "the index begins later": foot(index_offset=1, index_stored=-1),
    "the index overlaps": foot(index_offset=-1, index_stored=1),
    "the index is huge": foot(index_plain=1 << 40),
    "the index is longer": foot(index_plain=1),
    "the metadata are huge": foot(metadata_length=1 << 40),
    "the metadata are longer": foot(metadata_length=1),
    "the metadata are shorter": foot(metadata_length=-1),
    "the metadata lie outside": foot(metadata_offset=1 << 40),
    "the metadata overlap the index": foot(metadata_stored=1 << 12),
}


def test_what_is_forged_without_a_lie_is_an_archive(tmp_path: Path) -> None:
    """Or the tests below would prove nothing."""
    write_forged(tmp_path / f"{NAME}.tar.gz", Forged())
    assert [entry.path for entry, _ in walked(tmp_path / f"{NAME}.tar.gz")] == [b"a", b"b"]


@pytest.mark.parametrize("name", LIES)
def test_sentences_19_and_20_valid_digests_do_not_help_a_lie(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    write_forged(path, forged(LIES[name]))
    begun = time.monotonic()
    with pytest.raises(ArchiveError):
        walked(path)
    assert time.monotonic() - begun < 2


def test_metadata_by_the_footer_are_those_of_the_stream(tmp_path: Path) -> None:
    """A footer that points to another chunk with valid metadata would show one backup and restore another."""
    path = tmp_path / f"{NAME}.tar.gz"
    decoy = metadata_bytes() + b" "

    def lie(made: Forged) -> None:
        insert(Entry(b"decoy", Kind.FILE, 0o644, mtime_ns=NOW, size=len(decoy)), decoy)(made)
        stored = gzip_member(decoy + bytes(padding(len(decoy))))

        def point(footer: Footer) -> Footer:
            data = path.read_bytes() if path.exists() else b""
            at = data.index(stored) if data else footer.metadata_offset
            return replace(
                footer,
                metadata_offset=at,
                metadata_stored=len(stored),
                metadata_length=len(decoy),
                metadata_digest=blake3(stored).digest(),
            )

        made.footer = point

    write_forged(path, forged(lie))
    write_forged(path, forged(lie))
    with open_archive(path) as archive:
        assert archive.metadata()["backup_name"] == NAME
        with pytest.raises(ArchiveError, match="metadata"):
            for _ in archive.walk():
                pass

"""The reader refuses whatever was changed, cut, added or renamed, reads any range, and keeps to its memory."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.archive.entry import Entry
from resurgam.archive.opening import open_archive
from resurgam.archive.reader import NativeArchive
from resurgam.errors import ArchiveError, DamagedError, NotFoundError, StorageError
from tests.archive.trees import (
    DATABASE,
    NAME,
    file,
    folder,
    link,
    manual_plan,
    noise,
    plain_plan,
    text,
    walked,
    write_archive,
)
from tests.clusters import soaking
from tests.sampling import randomness, sample

SMALL = [folder("files"), file("files/a", text(700)), file(DATABASE, text(3_000), late=True), link("files/l", "a")]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_archive(tmp_path_factory.mktemp("small"), SMALL).read_bytes()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("plain"), plain_plan())


def refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(ArchiveError):
        walked(path)


@pytest.mark.parametrize("bit", range(8))
def test_sentence_20_no_flipped_bit_goes_unnoticed(tmp_path: Path, small: bytes, bit: int) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    for position in sample(range(len(small)), 150, f"flips of bit {bit}"):
        changed = bytearray(small)
        changed[position] ^= 1 << bit
        refused(path, bytes(changed))


def test_no_byte_changed_in_a_large_archive_goes_unnoticed(tmp_path: Path, plain: Path) -> None:
    data, random = plain.read_bytes(), randomness("bytes")
    # Not all of them in a soak: there are millions, and the small archive has every kind of byte.
    for position in random.sample(range(len(data)), 2_000 if soaking() else 12):
        changed = bytearray(data)
        changed[position] ^= random.randrange(1, 256)
        refused(tmp_path / plain.name, bytes(changed))


def test_sentence_5_cut_anywhere_it_is_damaged(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    for length in sample(range(len(small)), 300, "cuts"):
        path.write_bytes(small[:length])
        with pytest.raises(DamagedError):
            open_archive(path).close() if length >= 30 else walked(path)


def test_sentence_5_cut_at_the_end_of_any_member_it_is_damaged(tmp_path: Path, plain: Path) -> None:
    """There a gzip tar looks whole to every tool: entries' ends, the tar stream's end, the index's."""
    data, path, position = plain.read_bytes(), tmp_path / plain.name, 0
    with open_archive(plain) as archive:
        assert isinstance(archive, NativeArchive)
        ends = [position := position + stored for stored in archive.index.chunk_stored]
    for end in [*sample(ends[:-1], 30, "members"), ends[-1]]:
        path.write_bytes(data[:end])
        gzip.decompress(data[:end])
        with pytest.raises(DamagedError):
            open_archive(path)


@pytest.mark.parametrize("more", [b"\0", b"x", bytes(512), bytes(10_240), b"footer"])
def test_sentence_4_nothing_may_follow_the_footer(tmp_path: Path, small: bytes, more: bytes) -> None:
    refused(tmp_path / f"{NAME}.tar.gz", small + (small[-200:] if more == b"footer" else more))


def test_bytes_taken_out_put_in_or_exchanged_are_noticed(tmp_path: Path, small: bytes) -> None:
    path, random = tmp_path / f"{NAME}.tar.gz", randomness("shifts")
    for _ in range(40):
        one, two = sorted(random.sample(range(1, len(small)), 2))
        refused(path, small[:one] + small[two:])
        refused(path, small[:one] + b"\0" + small[one:])
        refused(path, small[:one] + bytes(two - one) + small[two:]) if small[one:two].strip(b"\0") else None


def test_sentence_7_a_renamed_file_is_refused(tmp_path: Path, small: bytes) -> None:
    path = tmp_path / "radiology_backup_20250104_143023.tar.gz"
    path.write_bytes(small)
    with open_archive(path) as archive:
        with pytest.raises(DamagedError, match="renamed"):
            archive.metadata()
        with pytest.raises(DamagedError, match="renamed"):
            list(archive.entries())
        with pytest.raises(ArchiveError):
            list(archive.walk())


@pytest.mark.parametrize("name", [".tar.gz", "..tar.gz", "...tar.gz"])
def test_a_file_without_a_usable_name_is_refused(tmp_path: Path, small: bytes, name: str) -> None:
    refused(tmp_path / name, small)


def test_a_name_that_is_not_utf_8_is_refused_not_a_crash(tmp_path: Path, small: bytes) -> None:
    refused(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.tar.gz")), small)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"PK\3\4 a zip file", b"\x1f\x8b", b"\x1f\x8b\x08", bytes(100_000), b"SELECT 1;"]
)
def test_what_is_no_gzip_file_is_refused(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path / f"{NAME}.tar.gz", data)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.tar.gz").mkdir()
    os.mkfifo(tmp_path / "fifo.tar.gz")
    for name in ("folder", "fifo"):
        with pytest.raises(DamagedError, match="not a regular file"):
            open_archive(tmp_path / f"{name}.tar.gz")
    with pytest.raises(NotFoundError):
        open_archive(tmp_path / "none.tar.gz")
    (tmp_path / "loop.tar.gz").symlink_to("loop.tar.gz")
    with pytest.raises(StorageError):
        open_archive(tmp_path / "loop.tar.gz")


def test_a_format_from_the_future_is_called_so(tmp_path: Path, small: bytes) -> None:
    """Sentence 19: not damaged; whatever its footer looks like."""
    mark = small.index(b"resurgam") + 8
    future = small[:mark] + b"\x02\x00" + small[mark + 2 :]
    path = tmp_path / f"{NAME}.tar.gz"
    for data in (future, future + b"a longer footer"):
        path.write_bytes(data)
        with pytest.raises(ArchiveError, match="format 2") as caught:
            open_archive(path)
        assert not isinstance(caught.value, DamagedError)
        assert "newer version" in caught.value.hint


def test_sentence_19_metadata_need_two_reads(small: bytes, tmp_path: Path) -> None:
    """Damage elsewhere does not matter to a listing."""
    path = tmp_path / f"{NAME}.tar.gz"
    path.write_bytes(small[:200] + bytes(100) + small[300:])
    with open_archive(path) as archive:
        assert archive.metadata()["backup_name"] == NAME


@given(st.data())
def test_any_range_of_the_stream_is_read(plain: Path, data: st.DataObject) -> None:
    whole = gzip.decompress(plain.read_bytes())
    with open_archive(plain) as archive:
        assert isinstance(archive, NativeArchive)
        for _ in range(4):
            offset = data.draw(st.integers(0, len(whole)))
            length = data.draw(st.one_of(st.integers(0, 2_000), st.integers(0, len(whole))))
            assert b"".join(archive.read(offset, length)) == whole[offset : offset + length]


def test_an_entry_is_found_and_its_bytes_stand_where_the_index_says(plain: Path) -> None:
    whole = gzip.decompress(plain.read_bytes())
    contents = {planned.entry.path: planned.content for planned in plain_plan()}
    with open_archive(plain) as archive:
        assert isinstance(archive, NativeArchive)
        for path in sample(contents, 40, "found"):
            found = archive.find(path)
            assert found is not None
            assert whole[found.offset : found.offset + found.entry.size] == contents[path]
        assert archive.find(b"nowhere") is None


def test_an_archive_is_read_by_several_threads_at_once(plain: Path) -> None:
    contents = {planned.entry.path: planned.content for planned in plain_plan()}
    with open_archive(plain) as archive, ThreadPoolExecutor(6) as threads:

        def one(path: bytes) -> bool:
            return [b"".join(blocks) for _, blocks in archive.contents(lambda entry: entry.path == path)] == [
                contents[path]
            ]

        assert all(threads.map(one, sample(contents, 60, "threads")))


def test_contents_that_are_left_unread_or_read_in_part(plain: Path) -> None:
    contents = {planned.entry.path: planned.content for planned in plain_plan()}

    def wanted(entry: Entry) -> bool:
        return entry.path in contents

    with open_archive(plain) as archive:
        for reading in (archive.contents(wanted), archive.walk()):
            for number, (entry, blocks) in enumerate(reading):
                if number % 3 == 0 and wanted(entry):
                    assert contents[entry.path].startswith(next(blocks, b""))
                elif number % 3 == 1 and wanted(entry):
                    assert b"".join(blocks) == contents[entry.path]


def test_hostile_names_are_refused_before_any_content(tmp_path: Path) -> None:
    path = write_archive(tmp_path, [*manual_plan(), file("files/uploads/empty", b"a second one")])
    with open_archive(path) as archive:
        with pytest.raises(ArchiveError, match="twice"):
            next(archive.contents(lambda entry: True))
        with pytest.raises(ArchiveError, match="twice"):
            list(archive.entries())
        with pytest.raises(ArchiveError, match="twice"):
            list(archive.walk())


# Not ru_maxrss: that of a child begins with what its parent had.
_BOUND = """
import os, re, sys
from pathlib import Path
from resurgam.archive.entry import Entry, Kind
from resurgam.archive.opening import open_archive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
name, total = "b", int(sys.argv[2])
path = Path(sys.argv[1]) / "b.tar.gz"
block = (os.urandom(1000) + bytes(3000)) * 262
def blocks(size):
    while size:
        yield block[:size]
        size -= len(block[:size])
fd = os.open(path, os.O_RDWR | os.O_CREAT)
with ArchiveWriter(PlainSink(fd), name, mtime_ns=0) as writer:
    writer.add_late(Entry(b"dump.sql", Kind.FILE, 0o644), blocks(total // 2))
    for i in range(total // 4 // 22_000):
        writer.add(Entry(b"small/%d" % i, Kind.FILE, 0o644, size=22_000), blocks(22_000))
    writer.add(Entry(b"large", Kind.FILE, 0o644, size=total // 4), blocks(total // 4))
    writer.finish(b'{"backup_name": "b"}', 0)
with open_archive(path) as archive:
    for _, content in archive.walk():
        for _ in content:
            pass
    for _, content in archive.contents(lambda entry: True):
        for _ in content:
            pass
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_memory_is_bounded_whatever_flows_through(tmp_path: Path) -> None:
    """Design 2: a few blocks per worker; a gigabyte written, walked and read in under 160 MB."""
    run = subprocess.run([sys.executable, "-c", _BOUND, tmp_path, str(1 << 30)], check=True, capture_output=True)
    peak = int(run.stdout) / 1024
    (tmp_path / "b.tar.gz").unlink()
    assert peak < 160, f"{peak:.0f} MB"


def test_noise_between_is_no_archive(tmp_path: Path, small: bytes) -> None:
    refused(tmp_path / f"{NAME}.tar.gz", small[:100] + noise(5_000) + small[-200:])

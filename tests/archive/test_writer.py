"""What the writer stores comes back, the same input gives the same chunks, and a failing disk is told."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resurgam.archive.entry import Kind
from resurgam.archive.opening import open_archive
from resurgam.archive.reader import NativeArchive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.errors import DamagedError, ResurgamError, StorageError
from tests.archive.sealed import SINKS, sink_of
from tests.archive.trees import (
    DATABASE,
    NAME,
    NOW,
    SIZES,
    Planned,
    file,
    folder,
    link,
    manual_plan,
    metadata_bytes,
    noise,
    plain_plan,
    text,
    trees,
    walked,
    write_archive,
)


def scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="resurgam-archive-")


@given(trees())
def test_any_tree_comes_back(plan: list[Planned]) -> None:
    """Sentences 9 to 17: names, kinds, modes, owners, nanoseconds, contents."""
    with scratch() as place:
        path = write_archive(Path(place), plan)
        assert walked(path) == [(planned.entry, planned.content) for planned in plan]


@given(trees(), st.data())
def test_any_selection_comes_back_without_the_rest(plan: list[Planned], data: st.DataObject) -> None:
    wanted = {planned.entry.path for planned in plan if data.draw(st.booleans())}
    with scratch() as place, open_archive(write_archive(Path(place), plan)) as archive:
        found = [(entry, b"".join(blocks)) for entry, blocks in archive.contents(lambda entry: entry.path in wanted)]
        skipped = [entry for entry, _ in archive.contents(lambda entry: entry.path in wanted)]
    assert found == [(planned.entry, planned.content) for planned in plan if planned.entry.path in wanted]
    assert skipped == [entry for entry, _ in found]


@given(trees(sizes=SIZES, most=8), st.sampled_from([1, 511, 4_096, 1 << 20, 1 << 24]))
def test_equal_input_gives_equal_chunks(plan: list[Planned], step: int) -> None:
    """Sentences 14 and 15: however the source cut its blocks. Not of the stored bytes, see sentence 1."""
    step = max(step, max((planned.entry.size for planned in plan), default=0) // 400)

    def cut(place: str, planned: list[Planned]) -> tuple[object, ...]:
        with open_archive(write_archive(Path(place), planned)) as archive:
            assert isinstance(archive, NativeArchive)
            index = archive.index
            digests = [index.chunk_digest(number) for number in range(len(index.chunk_lengths))]
            return list(index.entries()), list(index.chunk_lengths), digests

    with scratch() as first, scratch() as second:
        assert cut(first, plan) == cut(second, [replace(planned, step=step) for planned in plan])


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", [*SIZES, (4 << 20) + 1, 8 << 20])
def test_every_size_around_a_threshold(tmp_path: Path, size: int, late: bool) -> None:
    content = (text(4 << 20) + noise(4 << 20))[:size].ljust(size, b"x")
    plan = [file("before", b"b"), file(DATABASE, content, late=late), file("after", b"a")]
    assert walked(write_archive(tmp_path, plan)) == [(planned.entry, planned.content) for planned in plan]


def test_totals_are_of_regular_files(tmp_path: Path) -> None:
    """The manual's total_files, and what backup_size_mb is made of (21): the metadata counts too."""
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    with ArchiveWriter(PlainSink(fd), NAME, mtime_ns=NOW) as writer:
        for planned in manual_plan():
            (writer.add_late if planned.late else writer.add)(planned.entry, planned.blocks())
        files = [planned for planned in manual_plan() if planned.entry.kind is Kind.FILE]
        assert writer.total_files == len(files)
        assert writer.content_bytes == sum(planned.entry.size for planned in files)
        writer.finish(metadata_bytes(), NOW)
        assert writer.total_files == len(files) + 1
        assert writer.content_bytes == sum(planned.entry.size for planned in files) + len(metadata_bytes())
    os.close(fd)


def test_an_empty_backup_is_an_archive(tmp_path: Path) -> None:
    assert walked(write_archive(tmp_path, [])) == []


@pytest.mark.parametrize("size", [0, 99, 101])
def test_a_source_that_gives_another_size_is_told_at_once(tmp_path: Path, size: int) -> None:
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    with (
        ArchiveWriter(PlainSink(fd), NAME, mtime_ns=NOW) as writer,
        pytest.raises(ValueError, match="100 were announced"),
    ):
        writer.add(file("a").entry._replace(size=100), [bytes(size)])
    os.close(fd)


def test_a_source_that_fails_leaves_the_entries_before_it_whole(tmp_path: Path) -> None:
    """A file that vanished while it was read may be left out, as long as it is a small one."""

    def vanishes() -> Iterator[bytes]:
        yield b"half"
        raise FileNotFoundError("gone")

    path = tmp_path / f"{NAME}.tar.gz"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    with ArchiveWriter(PlainSink(fd), NAME, mtime_ns=NOW) as writer:
        writer.add(file("a", b"first").entry, [b"first"])
        with pytest.raises(FileNotFoundError):
            writer.add(file("b", b"half of it").entry, vanishes())
        with pytest.raises(ValueError, match="were announced"):
            writer.add(file("c", b"three").entry, [b"two"])
        writer.add(file("d", b"last").entry, [b"last"])
        writer.finish(metadata_bytes(), NOW)
    os.close(fd)
    assert [(entry.path, content) for entry, content in walked(path)] == [(b"a", b"first"), (b"d", b"last")]


def test_a_name_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    """What every restore would refuse must not look as if it were saved."""
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    with ArchiveWriter(PlainSink(fd), NAME, mtime_ns=NOW) as writer:
        for path in (b"", b"/etc/passwd", b"a/../b", b"a//b", b"d/" * 4000 + b"x", b"n" * 256, b"a\0b"):
            with pytest.raises(ResurgamError):
                writer.add(file(path).entry)
    os.close(fd)


@pytest.mark.parametrize("mtime_ns", [1 << 63, 1 << 70, -(1 << 63) - 1, -(1 << 80)])
def test_sentence_10_a_time_beyond_64_bits_is_the_nearest_one(tmp_path: Path, mtime_ns: int) -> None:
    """ext4 and XFS hold times after 2262; a backup must not fail at such a file."""
    [(entry, _)] = walked(write_archive(tmp_path, [file("a", mtime_ns=mtime_ns)]))
    assert entry.mtime_ns == ((1 << 63) - 1 if mtime_ns > 0 else -(1 << 63))


def test_sentence_14_one_new_file_moves_no_others(tmp_path: Path) -> None:
    """The chunks of a tree with one more file are the old ones, but for a few."""
    plan = [file(f"files/uploads/{i:05}", noise(i % 3_000, i)) for i in range(3_000)]
    digests = []
    for number, tree in enumerate((plan, [*plan[:1_500], file("files/uploads/01499-new", b"new"), *plan[1_500:]])):
        place = tmp_path / str(number)
        place.mkdir()
        with open_archive(write_archive(place, tree)) as archive:
            index = archive.index  # type: ignore[union-attr]
            digests.append({index.chunk_digest(i) for i in range(len(index.chunk_lengths))})
    assert len(digests[0] - digests[1]) <= 12 < len(digests[0]) / 2


_FAILING = """
import os, random, resource, signal, sys
from resurgam.archive.entry import Entry, Kind
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
noise = random.Random(1).randbytes  # the same in every run: the limits come from the size of a whole one
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
try:
    with ArchiveWriter(PlainSink(fd), "b", mtime_ns=0) as writer:
        for i in range(40):
            writer.add(Entry(b"%d" % i, Kind.FILE, 0o644, size=100_000), [noise(100_000)])
        writer.add_late(Entry(b"dump", Kind.FILE, 0o644), [noise(1_000_000)])
        writer.finish(b"{}", 0)
except StorageError as error:
    assert error.hint and "failed" in error.message, error.message
    sys.exit(7)
sys.exit(0)
"""


def test_a_full_disk_is_a_storage_error_at_any_point(tmp_path: Path) -> None:
    def run(limit: int) -> int:
        return subprocess.run([sys.executable, "-c", _FAILING, tmp_path / "x", str(limit)], check=False).returncode

    assert run(1 << 30) == 0
    size = (tmp_path / "x").stat().st_size
    for limit in (0, 100, 4_096, 3_900_000, 4_100_000, size - 20_000, size - 64):  # the footer alone is larger
        (tmp_path / "x").unlink()
        assert run(limit) == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root; the limit above is tried anyway")
def test_a_full_file_system_is_a_storage_error(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        with pytest.raises(StorageError) as caught:
            write_archive(disk, [file(f"{i}", noise(300_000, i)) for i in range(10)])
        assert "No space left" in caught.value.message
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_can_not_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    with pytest.raises(StorageError), ArchiveWriter(PlainSink(fd), NAME, mtime_ns=NOW) as writer:
        writer.finish(metadata_bytes(), NOW)
    os.close(fd)


@pytest.mark.parametrize("place", [0.0, 0.0001, 0.3, 0.6, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("change", [b"\x01", b"\x80", b""])
@pytest.mark.parametrize("kind", SINKS)
def test_ordering_7_what_was_stored_is_read_back(
    tmp_path: Path, place: float, change: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that changes what is stored, after it was written and before it is read back."""
    fd, synced = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT), os.fsync

    def forgets(file: int) -> None:
        synced(file)
        size = os.fstat(fd).st_size
        if change:
            offset = min(int(size * place), size - 1)
            os.pwrite(fd, bytes([os.pread(fd, 1, offset)[0] ^ change[0]]), offset)
        else:
            os.ftruncate(fd, size - 1)

    monkeypatch.setattr(os, "fsync", forgets)
    with pytest.raises(StorageError), ArchiveWriter(sink_of(kind, fd, tmp_path), NAME, mtime_ns=NOW) as writer:
        for planned in plain_plan():
            (writer.add_late if planned.late else writer.add)(planned.entry, planned.blocks())
        writer.finish(metadata_bytes(), NOW)
    os.close(fd)


def test_a_writer_that_fails_leaves_no_threads(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    with pytest.raises(KeyError), ArchiveWriter(PlainSink(fd), NAME, mtime_ns=NOW) as writer:
        writer.add(file("a", noise(900_000)).entry, [noise(900_000)])
        raise KeyError
    os.close(fd)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("resurgam-worker")]


def test_links_and_folders_hold_no_bytes(tmp_path: Path) -> None:
    plan = [folder("a"), file("a/f", b"x"), link("a/s", "f"), link("a/h", "a/f", Kind.HARDLINK)]
    assert [content for _, content in walked(write_archive(tmp_path, plan))] == [b"", b"x", b"", b""]


def test_open_files_and_memory_are_given_back(tmp_path: Path) -> None:
    path = write_archive(tmp_path, manual_plan())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with open_archive(path) as archive:
            archive.metadata()
            next(archive.walk())
        path.with_name("cut.tar.gz").write_bytes(path.read_bytes()[:-1])
        with pytest.raises(DamagedError):
            open_archive(path.with_name("cut.tar.gz"))
    assert len(os.listdir("/proc/self/fd")) == before
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from resurgam.archive.entry import Entry, Kind
from resurgam.errors import FileSourceError
from resurgam.settings import FileTree
from resurgam.sources.entries import open_regular
from resurgam.sources.excludes import Excludes
from resurgam.sources.files import TreeReport, capture_tree, capture_trees
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.sources.sinks import KeptEntries

NOTHING = Excludes()


def capture(
    path: Path, sink: KeptEntries | None = None, excludes: Excludes = NOTHING
) -> tuple[TreeReport, KeptEntries]:
    sink = sink or KeptEntries()
    return capture_tree(FileTree("uploads", path, True), sink, excludes=excludes), sink


class MeddlingSink(KeptEntries):
    """Does something to the tree when a certain entry arrives, before its bytes are read."""

    def __init__(self, at: bytes, deed: Callable[[], object]) -> None:
        super().__init__()
        self._at, self._deed = at, deed

    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
        if entry.path == self._at:
            self._deed()
        super().add(entry, blocks)


def test_kinds_contents_and_attributes_in_the_order_of_bytes(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "empty").mkdir(mode=0o750)
    (tmp_path / "b" / "x").write_bytes(b"in b")
    (tmp_path / "b.txt").write_bytes(b"text")
    (tmp_path / "a").symlink_to("/etc/passwd")
    (tmp_path / "c").symlink_to("b")
    os.chmod(tmp_path / "b.txt", 0o4640)
    os.utime(tmp_path / "b.txt", ns=(1, 1_234_567_890_123_456_789))
    report, sink = capture(tmp_path)
    assert sink.paths() == [
        b"files/uploads" + end for end in (b"", b"/a", b"/b", b"/b/empty", b"/b/x", b"/b.txt", b"/c")
    ]
    text = sink[b"files/uploads/b.txt"]
    assert (text.mode, text.mtime_ns, text.size, text.uid) == (0o4640, 1_234_567_890_123_456_789, 4, os.getuid())
    assert text.uname == __import__("pwd").getpwuid(os.getuid()).pw_name
    assert sink[b"files/uploads/a"].target == b"/etc/passwd" and sink[b"files/uploads/c"].kind is Kind.SYMLINK
    assert sink[b"files/uploads/b/empty"].mode == 0o750
    assert sink.content[b"files/uploads/b/x"] == b"in b"
    assert (report.files, report.folders, report.symlinks, report.bytes) == (2, 3, 2, 8)


def test_reading_leaves_the_time_of_access_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"text")
    os.link(tmp_path / "b", tmp_path / "c")
    for name in ("a", "b"):
        os.utime(
            tmp_path / name, ns=(5_000_000_000, 7_000_000_000)
        )  # accessed before it was written: relatime notes it
    _, sink = capture(tmp_path)
    assert sink.content[b"files/uploads/a"] == sink.content[b"files/uploads/b"] == b"text"
    assert [(tmp_path / name).stat().st_atime_ns for name in ("a", "b")] == [5_000_000_000] * 2


def test_somebody_else_s_file_is_read_all_the_same() -> None:
    folder, root = os.open("/etc", os.O_RDONLY), os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        fd, status = open_regular(b"passwd", folder)
    finally:
        if root:
            os.seteuid(0)
        os.close(folder)
    assert os.pread(fd, status.st_size, 0) == Path("/etc/passwd").read_bytes()
    os.close(fd)


def test_the_tree_itself_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_bytes(b"1")
    (tmp_path / "link").symlink_to("real")
    _, sink = capture(tmp_path / "link")
    assert sink.paths() == [b"files/uploads", b"files/uploads/x"]


def test_names_that_are_not_utf8_or_hold_newlines_survive(tmp_path: Path) -> None:
    names = [b"caf\xe9", "ärzte".encode(), b"two\nlines", b"-rf", b" "]
    for name in names:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(name)
    _, sink = capture(tmp_path)
    assert sink.paths(Kind.FILE) == [b"files/uploads/" + name for name in sorted(names)]
    assert all(sink.content[b"files/uploads/" + name] == name for name in names)


def test_hard_links_point_to_the_first_name_and_stay_within_a_tree(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "z").write_bytes(b"shared")
    os.link(tmp_path / "one" / "z", tmp_path / "one" / "a")
    os.link(tmp_path / "one" / "z", tmp_path / "two" / "other")
    sink = KeptEntries()
    trees = [FileTree("one", tmp_path / "one", True), FileTree("two", tmp_path / "two", True)]
    reports = capture_trees(trees, sink, excludes=NOTHING, made_ns=5)
    assert sink.order[0] == Entry(b"files", Kind.FOLDER, 0o755, os.getuid(), os.getgid(), mtime_ns=5)
    link = sink[b"files/one/z"]
    assert (link.kind, link.target, link.size) == (Kind.HARDLINK, b"files/one/a", 0)
    assert sink[b"files/two/other"].kind is Kind.FILE and sink.content[b"files/two/other"] == b"shared"
    assert [report.hardlinks for report in reports] == [1, 0]


def test_large_and_sparse_files(tmp_path: Path) -> None:
    large = os.urandom(3 << 20) + b"end"
    (tmp_path / "large").write_bytes(large)
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"middle")
        file.truncate(100 << 20)
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(70_000)
    with (tmp_path / "small").open("wb") as file:
        file.write(b"start")
        file.truncate(70_000)
    _, sink = capture(tmp_path)
    assert sink.content[b"files/uploads/small"] == b"start" + bytes(69_995)
    assert sink.content[b"files/uploads/large"] == large and not sink[b"files/uploads/large"].sparse
    assert sink[b"files/uploads/sparse"].sparse and sink[b"files/uploads/hole"].sparse
    assert sink.content[b"files/uploads/hole"] == bytes(70_000)
    sparse = sink.content[b"files/uploads/sparse"]
    assert len(sparse) == 100 << 20 and sparse.strip(b"\0") == b"middle" and sparse[64 << 20 :][:6] == b"middle"


def test_holes_cost_no_reading(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(8 << 30)
    counted = 0

    class Counting(KeptEntries):
        def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
            nonlocal counted
            for block in blocks:
                counted += len(block)

    started = time.process_time()
    capture(tmp_path, Counting())
    assert counted == 8 << 30 and time.process_time() - started < 1


def test_special_files_are_listed_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(tmp_path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/sock")
        os.close(folder)
        report, sink = capture(tmp_path)
    assert report.skipped.names == ("files/uploads/pipe: a named pipe", "files/uploads/sock: a socket")
    assert sink.paths() == [b"files/uploads"]


def test_what_vanishes_or_is_exchanged_is_recorded(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "folder").mkdir()

    def meddle() -> None:
        (tmp_path / "b").unlink()
        (tmp_path / "c").unlink()
        (tmp_path / "c").symlink_to("/etc/passwd")
        (tmp_path / "d").unlink()
        os.mkfifo(tmp_path / "d")
        (tmp_path / "folder").rmdir()

    report, sink = capture(tmp_path, MeddlingSink(b"files/uploads/a", meddle))
    assert sink.paths(Kind.FILE) == [b"files/uploads/a"]
    assert report.vanished.names == tuple(f"files/uploads/{name}" for name in ("b", "c", "d", "folder"))


@pytest.mark.parametrize("new_size", [1 << 20, 5 << 20])
def test_a_file_that_shrinks_or_grows_keeps_its_announced_size(tmp_path: Path, new_size: int) -> None:
    before = b"x" * (2 << 20)
    (tmp_path / "log").write_bytes(before)
    sink = MeddlingSink(b"files/uploads/log", lambda: os.truncate(tmp_path / "log", new_size))
    report, _ = capture(tmp_path, sink)
    kept = min(new_size, 2 << 20)
    assert sink.content[b"files/uploads/log"] == before[:kept] + bytes((2 << 20) - kept)
    assert report.changed.names == ("files/uploads/log",)


def test_unreadable_files_and_folders_fail_the_run_and_are_all_named(tmp_path: Path) -> None:
    """As an unprivileged user, in a process of its own, since root reads everything."""
    (tmp_path / "fine").write_bytes(b"")
    (tmp_path / "secret file").write_bytes(b"")
    (tmp_path / "locked").mkdir()
    code = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from resurgam.errors import FileSourceError
from tests.sources.test_files import capture
folder = os.open({str(tmp_path)!r}, os.O_RDONLY)
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    capture(Path(f"/proc/self/fd/{{folder}}"))
except FileSourceError as error:
    print(error.message)
"""
    os.chmod(tmp_path, 0o755)
    os.chmod(tmp_path / "secret file", 0)
    os.chmod(tmp_path / "locked", 0)
    # Modules under root's home must have been imported before the process gives up its rights.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "files/uploads/secret file (Permission denied)" in done.stdout
    assert "files/uploads/locked (Permission denied)" in done.stdout


def test_absent_default_is_a_warning_and_absent_configured_an_error(tmp_path: Path) -> None:
    sink = KeptEntries()
    report = capture_tree(FileTree("uploads", tmp_path / "no", False), sink, excludes=NOTHING)
    assert not report.present and len(report.warnings) == 1 and sink.order == []
    with pytest.raises(FileSourceError, match="No such file") as caught:
        capture_tree(FileTree("uploads", tmp_path / "no", True), sink, excludes=NOTHING)
    assert caught.value.hint
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileSourceError, match="Not a directory"):
        capture_tree(FileTree("uploads", tmp_path / "file", False), sink, excludes=NOTHING)


def test_two_trees_of_one_name_are_refused(tmp_path: Path) -> None:
    sink = KeptEntries()
    with pytest.raises(FileSourceError, match="Two file trees"):
        capture_trees([FileTree("a", tmp_path, True), FileTree("a", tmp_path, True)], sink, excludes=NOTHING)
    assert sink.order == []


def test_our_own_files_never_enter(tmp_path: Path) -> None:
    for name in ("backups", ".resurgam-1-uploads", "sub"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_bytes(b"x")
    for name in ("key", ".env", ".archive.tar.gz.partial", "scan.partial", "sub/.resurgam-previous-1-f"):
        (tmp_path / name).write_bytes(b"x")
    os.link(tmp_path / "key", tmp_path / "innocent")
    excludes = Excludes(own_folders=(tmp_path / "backups",), secrets=(tmp_path / "key",))
    report, sink = capture(tmp_path, excludes=excludes)
    assert sink.paths(Kind.FILE) == [b"files/uploads/scan.partial", b"files/uploads/sub/x"]
    assert report.excluded.count == 7 and len(report.warnings) == 3
    with pytest.raises(FileSourceError, match="one of Resurgam's own"):
        capture(tmp_path / "backups", excludes=excludes)


def test_a_deep_tree_is_captured_and_one_no_restore_accepts_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.mkdir()
    fd = os.open(deep, os.O_RDONLY)
    for _ in range(198):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    report, _ = capture(deep)
    assert report.folders == 199
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(FileSourceError, match="deeper than a restore accepts"):
        capture(deep)
    subprocess.run(["rm", "-rf", str(deep)], check=True)


def test_lists_in_reports_are_capped_and_counts_exact(tmp_path: Path) -> None:
    for number in range(1100):
        os.mkfifo(tmp_path / f"p{number:04}")
    report, _ = capture(tmp_path)
    assert report.skipped.count == 1100 and len(report.skipped.names) == 1000


def test_progress_counts_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * (3 << 20))
    seen: list[int] = []
    capture_tree(FileTree("t", tmp_path, True), KeptEntries(), excludes=NOTHING, progress=seen.append)
    assert sum(seen) == 100 + (3 << 20)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_bytes(b"")

    class Failing(KeptEntries):
        def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
            if entry.path.endswith(b"/f"):
                raise FileSourceError("stop")

    before = os.listdir("/proc/self/fd")
    with pytest.raises(FileSourceError, match="stop"):
        capture(tmp_path, Failing())
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_many_small_files_are_cheap(tmp_path: Path) -> None:
    """2,000 files of 22 KB in under 0.25 s of CPU (20,000 in under a second, with slack)."""
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for number in range(100):
            (tmp_path / str(folder) / str(number)).write_bytes(b"x" * 22_000)

    class Discarding(KeptEntries):
        def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
            for _ in blocks:
                pass

    before = resource.getrusage(resource.RUSAGE_SELF)
    report, _ = capture(tmp_path, Discarding())
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert report.files == 2000
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.25


@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_a_disk_that_answers_eio_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    (tmp_path / "bad sector").write_bytes(b"x" * size)
    (tmp_path / "later").write_bytes(b"fine")

    def broken(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", broken)
    sink = KeptEntries()
    with pytest.raises(FileSourceError, match=r"files/uploads/bad sector \(Input/output error\)"):
        capture(tmp_path, sink)
    assert b"files/uploads/later" not in sink.paths()


@needs_mounts
def test_a_file_system_mounted_inside_belongs_to_the_tree(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()

    def deed() -> list[bytes]:
        (tmp_path / "inside" / "x").write_bytes(b"on tmpfs")
        return capture(tmp_path)[1].paths(Kind.FILE)

    found = in_child(deed, mounts=lambda: mount("-t", "tmpfs", "none", tmp_path / "inside"))
    assert found == [b"files/uploads/inside/x"]


@needs_mounts
def test_the_backup_folder_is_known_under_another_mount_too(tmp_path: Path) -> None:
    for name in ("backups", "tree/again"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "backups" / "x").write_bytes(b"")

    def deed() -> list[bytes]:
        return capture(tmp_path / "tree", excludes=Excludes(own_folders=(tmp_path / "backups",)))[1].paths()

    found = in_child(deed, mounts=lambda: mount("--bind", tmp_path / "backups", tmp_path / "tree" / "again"))
    assert found == [b"files/uploads"]

"""What a repository takes for unchanged, on a real file system: never a file that is another (format, 20)."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resurgam.archive.entry import Entry, Kind, Offer
from resurgam.repository.records import NO_PRINT, Record, bodies
from resurgam.repository.repository import Repository
from resurgam.repository.run import About, backing_up
from resurgam.settings import FileTree
from resurgam.sources.excludes import Excludes
from resurgam.sources.files import capture_tree
from resurgam.stores.object_folder import FolderStore
from tests.repository.scenes import START, contents, new_repository, reopened, stored

LARGE = 1 << 20
# Everything that the tests write is settled by then, as if they had waited.
AHEAD = 10_000_000_000


class Trees:
    """A tree, backed up again and again, each time from what the backup before knows."""

    def __init__(self, root: Path) -> None:
        self.tree = root / "uploads"
        self.repository = new_repository(FolderStore(root / "store"))
        self.last: bytes | None = None
        self.number = 0
        self.unread = 0

    def fill(self) -> None:
        for folder in range(8):
            (self.tree / f"{folder}").mkdir(parents=True)
            for number in range(60):
                self.write(f"{folder}/{number}", os.urandom(700))
        for name, size in (("below", LARGE - 1), ("equal", LARGE), ("above", LARGE + 1)):
            self.write(name, os.urandom(size))

    def write(self, name: str, data: bytes) -> None:
        (self.tree / name).write_bytes(data)

    def backup(self, excludes: Excludes = Excludes(), *, at_offer: Callable[[bytes], None] | None = None) -> None:  # noqa: B008
        repository = Repository.open(self.repository.store, lambda _: self.repository.keys)
        last = None if self.last is None else stored(repository, self.last)
        name = f"app_backup_20260101_{self.number:06}"
        now = time.time_ns() + AHEAD
        with backing_up(repository, name, "app", mtime_ns=0, now_ns=now, last=last, pack_size=1 << 20) as run:
            run.writer.add(Entry(b"files", Kind.FOLDER, 0o755))
            sink = run.writer
            if at_offer is not None:
                offer, deed = sink.offer, at_offer

                def watched(offered: Offer) -> None:
                    deed(offered.entry.path)
                    offer(offered)

                sink.offer = watched  # type: ignore[method-assign]
            capture_tree(FileTree("uploads", self.tree, True), sink, excludes=excludes)
            run.writer.finish(b"{}", 0)
            self.last = run.commit(About(name, "app", START, self.number, 1, "h", "0"), b"{}")
            self.unread = run.writer.totals.unread
        self.number += 1

    def files(self) -> dict[str, bytes]:
        """What the last backup holds of the tree."""
        assert self.last is not None
        repository = reopened(self.repository)
        with repository.open_backup(stored(repository, self.last)) as backup:
            top, found = b"files/uploads/", dict[str, bytes]()
            for entry, blocks in backup.walk():
                name = entry.path.removeprefix(top).decode()
                if entry.path.startswith(top) and entry.kind is Kind.FILE:
                    found[name] = b"".join(blocks)
                elif entry.kind is Kind.HARDLINK:
                    found[name] = found[entry.target.removeprefix(top).decode()]
            return found

    def there(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.tree)): path.read_bytes() for path in self.tree.rglob("*") if path.is_file()}


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    made = Trees(tmp_path)
    made.fill()
    made.backup()
    return made


def _same_size_old_time(tree: Path) -> None:
    status = (tree / "3/7").stat()
    (tree / "3/7").write_bytes(os.urandom(700))
    os.utime(tree / "3/7", ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced_with_same_times(tree: Path) -> None:
    for name, size in (("3/8", 700), ("above", LARGE + 1)):
        status = (tree / name).stat()
        (tree / "new").write_bytes(os.urandom(size))
        os.utime(tree / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tree / "new").rename(tree / name)


def _swapped(tree: Path) -> None:
    shutil.copystat(tree / "2/1", tree / "2/2")
    for old, new in (("2/1", "x"), ("2/2", "2/1"), ("x", "2/2"), ("4", "x"), ("5", "4"), ("x", "5")):
        (tree / old).rename(tree / new)


def _across_the_boundary(tree: Path) -> None:
    for name in ("below", "equal", "above"):
        with (tree / name).open("r+b") as file:
            file.truncate(LARGE - 2 if name != "below" else LARGE + 2)


def _linked(tree: Path) -> None:
    os.link(tree / "6/1", tree / "6/1b")
    os.link(tree / "above", tree / "7/again")


def _written_in_place(tree: Path) -> None:
    for name in ("equal", "1/30"):
        with (tree / name).open("r+b") as file:
            file.seek(100)
            file.write(b"changed")


def _inode_reused(tree: Path) -> None:
    for name in ("1/1", "1/2", "above"):
        status = (tree / name).stat()
        (tree / name).unlink()
        (tree / name).write_bytes(os.urandom(status.st_size))
        os.utime(tree / name, ns=(status.st_atime_ns, status.st_mtime_ns))


def _holes(tree: Path) -> None:
    with (tree / "above").open("r+b") as file:
        file.truncate(4096)
        file.truncate(LARGE + 1)


DEEDS = [
    _same_size_old_time,
    _replaced_with_same_times,
    _swapped,
    _across_the_boundary,
    _linked,
    _written_in_place,
    _inode_reused,
    _holes,
]


@pytest.mark.parametrize("deed", DEEDS)
def test_what_changed_is_read(trees: Trees, deed: Callable[[Path], None]) -> None:
    trees.backup()
    assert trees.unread > 480
    deed(trees.tree)
    trees.backup()
    assert trees.files() == trees.there()
    trees.backup()
    assert trees.unread > 450


def test_attributes_alone_are_kept_too(trees: Trees) -> None:
    for name in ("3/3", "above"):
        os.chmod(trees.tree / name, 0o741)
    os.chown(trees.tree / "3/4", 12345, 54321)
    os.chmod(trees.tree / "5", 0o711)
    trees.backup()
    repository = reopened(trees.repository)
    assert trees.last is not None
    with repository.open_backup(stored(repository, trees.last)) as backup:
        entries = {one.entry.path.decode(): one.entry for one in backup.index.entries()}
    assert {entries[f"files/uploads/{name}"].mode for name in ("3/3", "above")} == {0o741}
    assert (entries["files/uploads/3/4"].uid, entries["files/uploads/3/4"].gid) == (12345, 54321)
    assert entries["files/uploads/5"].mode == 0o711


@pytest.mark.parametrize("name", ["3/7", "above"])
def test_what_is_excluded_since_does_not_come_back_from_an_old_record(trees: Trees, name: str, tmp_path: Path) -> None:
    path = trees.tree / name
    secret = path.read_bytes()
    for excludes in (
        Excludes(patterns=(f"uploads/{name}",)),
        Excludes(secrets=(path,)),
        Excludes(own_folders=(trees.tree / "3",)),
    ):
        if excludes.own_folders and name == "above":
            continue
        trees.backup(excludes)
        assert name not in trees.files()
        assert secret not in trees.files().values()
    path.rename(path.with_name(".env"))
    trees.backup()
    assert secret not in trees.files().values()
    assert trees.files() == {key: data for key, data in trees.there().items() if not key.endswith(".env")}


@pytest.mark.parametrize("name", ["3/7", "above"])
def test_a_file_that_stood_in_for_another_while_it_was_read_is_not_taken_for_it(trees: Trees, name: str) -> None:
    """Size, mode and mtime are the same. The first may come back, on a file system whose renames leave ctime alone."""
    path, aside = trees.tree / name, trees.tree.parent / "aside"
    path.write_bytes(os.urandom(path.stat().st_size))

    def meddle(seen: bytes) -> None:
        if seen.endswith(name.encode()) and not aside.exists():
            status = path.stat()
            path.rename(aside)
            path.write_bytes(bytes(status.st_size))
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    trees.backup(at_offer=meddle)
    assert aside.exists() and trees.files()[name] == path.read_bytes()
    assert trees.last is not None
    repository = reopened(trees.repository)
    with repository.open_backup(stored(repository, trees.last)) as backup:
        for record in map(Record.decode, bodies(backup.list_blocks())):
            there = {one.entry.path for one in record.entries.entries()}
            assert f"files/uploads/{name}".encode() not in there or record.print == NO_PRINT


def test_long_names_and_runs_of_a_thousand(tmp_path: Path) -> None:
    made = Trees(tmp_path)
    deep = made.tree.joinpath(*["d" * 200] * 15)
    deep.mkdir(parents=True)
    for number in range(2500):
        (deep / f"{number:04}{'n' * 200}").write_bytes(b"%d" % number)
    made.backup()
    made.backup()
    assert made.unread >= 2500
    (deep / f"1024{'n' * 200}").write_bytes(b"x")
    made.backup()
    assert made.files() == made.there()


def test_many_backups_in_one_process_leave_no_descriptor_and_no_mapping(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    repository = new_repository(store)
    cache = tmp_path / "cache"
    cache.mkdir()
    repository = Repository(store, repository.keys, cache)
    last, counts = None, []
    for number in range(100):
        name = f"app_backup_20260101_{number:06}"
        with backing_up(repository, name, "app", mtime_ns=0, now_ns=time.time_ns(), last=last) as run:
            run.writer.add(Entry(b"x", Kind.FILE, 0o600, size=5000), [os.urandom(5000)])
            run.writer.finish(b"{}", 0)
            made = run.commit(About(name, "app", START, number, 1, "h", "0"), b"{}")
        if number % 10 == 5:
            last = stored(repository, made)
            maps = Path("/proc/self/maps").read_text().count(str(cache))
            threads = len(os.listdir("/proc/self/task"))
            counts.append((len(os.listdir("/proc/self/fd")), maps, threads))
    fds, mapped, tasks = zip(*counts, strict=True)
    assert max(fds) <= fds[0] + 3, counts
    assert max(mapped) <= 12, counts
    assert max(tasks) <= tasks[0] + 2, counts
    assert len(list(cache.glob("*.table"))) <= 12
    assert contents(repository, made)

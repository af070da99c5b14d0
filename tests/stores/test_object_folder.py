"""The folder store where it meets its disk: what it leaves, what it ignores, what it refuses (ordering.md, 41)."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from resurgam import durable
from resurgam.errors import ObjectExists, ObjectMissing, StorageError
from resurgam.stores import object_folder
from resurgam.stores.object_folder import FolderStore
from tests.repository.faulty_store import Killed
from tests.repository.faulty_system import KILL, SHORT, Failure, faulty_system

KEY = "packs/ab/abcd"
DATA = b"what a pack holds" * 100
PARTIAL = ".abcd.0123456789abcdef.partial"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    made = FolderStore(tmp_path / "above" / "repository")
    made.prepare()
    return made


def _files(store: FolderStore) -> dict[str, bytes]:
    return {os.fspath(p.relative_to(store.path)): p.read_bytes() for p in store.path.rglob("*") if p.is_file()}


def test_files_and_folders_are_private(store: FolderStore) -> None:
    store.put(KEY, DATA)
    assert (store.path / KEY).stat().st_mode & 0o777 == 0o600
    for folder in (store.path / "packs/ab", store.path / "packs", store.path, store.path.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert _files(store) == {KEY: DATA}


def test_a_folder_that_is_not_there_is_never_made_by_a_put_nor_an_empty_store(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "unmounted")
    for call in (
        lambda: store.put(KEY, DATA),
        lambda: store.put("config", DATA),
        lambda: store.get(KEY),
        store.list,
        lambda: store.list("packs/"),
        lambda: store.delete(KEY),
        store.time,
        store.sweep,
        store.free_bytes,
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert not isinstance(caught.value, ObjectMissing)
        assert "is not there" in caught.value.message and "mounted" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_goes_away_between_two_puts(store: FolderStore) -> None:
    store.put(KEY, DATA)
    store.path.rename(store.path.with_name("gone"))
    with pytest.raises(StorageError, match="is not there"):
        store.put("packs/ab/abce", DATA)
    assert not store.path.exists()


def test_a_folder_within_that_somebody_removed_is_made_again(store: FolderStore) -> None:
    store.put(KEY, DATA)
    store.delete(KEY)
    (store.path / "packs/ab").rmdir()
    with pytest.raises(StorageError):
        store.put(KEY, DATA)
    store.put(KEY, DATA)
    assert _files(store) == {KEY: DATA}


def test_links_and_foreign_names_are_not_objects(store: FolderStore, tmp_path: Path) -> None:
    store.put(KEY, DATA)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/1").write_bytes(b"secret")
    (store.path / "linked").symlink_to(tmp_path / "outside")
    (store.path / "packs/ab/linked").symlink_to(tmp_path / "outside/1")
    os.mkfifo(store.path / "packs/ab/fifo")
    for name in (PARTIAL, "README.txt", ".DS_Store", "x~", "UPPER"):
        (store.path / "packs/ab" / name).write_bytes(b"foreign")
    (store.path / ".hidden").mkdir()
    (store.path / ".hidden/1").write_bytes(b"foreign")
    assert [one.key for one in store.list()] == [KEY]
    for key in ("packs/ab/linked", "packs/ab/fifo", "packs/ab"):
        with pytest.raises(StorageError):
            store.get(key)
        with pytest.raises(ObjectExists):
            store.put(key, b"secret")
    with pytest.raises(StorageError, match="is not a folder"):
        store.put("linked/2", b"x")
    assert sorted(os.listdir(tmp_path / "outside")) == ["1"]


def test_a_folder_that_can_not_be_read_is_not_an_empty_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("open to all")
    store = FolderStore(base / "repository")
    store.prepare()
    for key in ("packs/aa/1", "packs/bb/1"):
        store.put(key, DATA)
    above = [base, *base.parents]
    ours = above[: above.index(Path(tempfile.gettempdir()))]
    for folder in (*ours, store.path, store.path / "packs", store.path / "packs/aa"):
        folder.chmod(0o755)
    (store.path / "packs/bb").chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read everything
        os.seteuid(65534)
    try:
        assert [one.key for one in store.list("packs/aa/")] == ["packs/aa/1"]
        for prefix in ("", "packs/", "packs/bb/"):
            with pytest.raises(StorageError, match="Permission denied"):
                store.list(prefix)
    finally:
        os.seteuid(user)
        (store.path / "packs/bb").chmod(0o700)


def test_a_read_only_folder_can_be_read(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(KEY, DATA)
    with faulty_system(Failure("open", 0, errno.EROFS, lasting=True)):
        assert store.get(KEY) == DATA
        assert [one.key for one in store.list()] == [KEY]
        with pytest.raises(StorageError, match="Read-only"):
            store.put("packs/ab/abce", DATA)
    assert _files(store) == {KEY: DATA}


def test_a_file_that_vanishes_while_it_is_listed_is_left_out(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.put(f"packs/ab/{number}", DATA)
    walk = FolderStore._walk

    def walk_and_lose(self: FolderStore, begin: str) -> Any:
        for name, entry in walk(self, begin):
            if name == "packs/ab/3":
                (self.path / name).unlink()
            yield name, entry

    monkeypatch.setattr(FolderStore, "_walk", walk_and_lose)
    assert [one.key for one in store.list()] == [f"packs/ab/{number}" for number in (0, 1, 2, 4)]


def test_a_sweep_takes_partial_files_that_are_a_day_old(store: FolderStore) -> None:
    store.put(KEY, DATA)
    old, new = store.path / "packs/ab" / PARTIAL, store.path / f".config.{'0' * 16}.partial"
    clock = store.path / f".clock.xyz.{'0' * 16}.partial"
    alien = store.path / "packs/ab/.vimrc.partial"
    for file in (old, new, alien, clock):
        file.write_bytes(b"half")
    now = time.time()
    for file in (old, alien, clock):
        os.utime(file, (now - 86500, now - 86500))
    os.utime(new, (now - 86300, now - 86300))
    os.utime(store.path / KEY, (0, 0))
    assert store.sweep() == 2
    assert not old.exists() and not clock.exists()
    assert new.exists() and alien.exists()
    assert store.get(KEY) == DATA


def test_the_clock_is_the_disks(store: FolderStore) -> None:
    assert abs(store.time() - time.time()) < 2
    assert list(store.path.iterdir()) == []


def test_staleness_is_that_of_the_file_system(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.staleness == 0.0
    monkeypatch.setattr(object_folder, "filesystem_type", lambda path: "nfs4")
    assert store.staleness == 60.0


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL])
def test_publication_where_renames_may_replace(store: FolderStore, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*arguments: Any) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(durable, "_renameat2", refuse)
    store.put(KEY, DATA)
    store.put(KEY, DATA)
    with pytest.raises(ObjectExists):
        store.put(KEY, b"another")
    assert _files(store) == {KEY: DATA}


def test_a_disk_on_which_writers_could_overwrite_each_other_is_refused(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Simple(durable.System):
        def rename2(self, old: Path, new: Path, flags: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        def link(self, old: Path, new: Path) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(durable, "system", Simple())
    with pytest.raises(StorageError) as caught:
        store.put(KEY, DATA)
    assert "s3://" in caught.value.hint
    assert _files(store) == {}


def test_short_writes_are_written_on(store: FolderStore) -> None:
    with faulty_system(Failure("write", 0, SHORT, lasting=True)) as system:
        store.put(KEY, DATA)
    assert system.calls.count("write") > 5
    assert _files(store) == {KEY: DATA}


def _puts(store: FolderStore) -> None:
    store.put("config", b"c")
    store.put(KEY, DATA)
    store.put(KEY, DATA)
    store.put("packs/ab/abce", DATA)
    store.delete("config")


def test_whatever_call_fails_nothing_is_half_there_and_the_next_run_succeeds(tmp_path: Path) -> None:
    with faulty_system() as counting:
        first = FolderStore(tmp_path / "first")
        first.prepare()
        _puts(first)
    assert len(counting.calls) > 30
    for at, call in enumerate(counting.calls):
        for code in (errno.ENOSPC, errno.EIO, KILL):
            store = FolderStore(tmp_path / f"{at} {code}")
            with faulty_system(Failure("", at, code)), pytest.raises((StorageError, Killed)) as caught:
                store.prepare()
                _puts(store)
            assert isinstance(caught.value, Killed) == (code == KILL), call
            left = _files(store)
            for key, whole in (("config", b"c"), (KEY, DATA), ("packs/ab/abce", DATA)):
                assert left.pop(key, whole) == whole
            # A process that lives cleans up behind itself, but for the very unlink that fails.
            if code != KILL and call != "unlink":
                assert left == {}
            again = FolderStore(store.path)
            again.prepare()
            _puts(again)
            assert {one.key for one in again.list()} == {KEY, "packs/ab/abce"}


def test_a_failed_fsync_is_never_taken_for_done(store: FolderStore) -> None:
    for at in range(3):
        with faulty_system(Failure("fsync", at, errno.EIO)), pytest.raises(StorageError, match="Input/output error"):
            store.put(f"packs/a{at}/1", DATA)


def test_a_full_disk_is_said_to_be_full(store: FolderStore) -> None:
    with faulty_system(Failure("write", 0, errno.ENOSPC)), pytest.raises(StorageError) as caught:
        store.put(KEY, DATA)
    assert "No space left" in caught.value.message and "space" in caught.value.hint
    assert _files(store) == {}


def test_processes_that_are_stopped_in_the_middle_do_not_disturb_others(store: FolderStore) -> None:
    """Two writers of one key, both past every look: one is held just before it publishes."""
    held, go = threading.Event(), threading.Event()

    class Holding(durable.System):
        def rename2(self, old: Path, new: Path, flags: int) -> None:
            if threading.current_thread().name == "slow":
                held.set()
                go.wait()
            super().rename2(old, new, flags)

    outcome: list[object] = []

    def put_slowly() -> None:
        try:
            store.put(KEY, b"slow")
        except ObjectExists as error:
            outcome.append(error)

    before, durable.system = durable.system, Holding()
    try:
        slow = threading.Thread(target=put_slowly, name="slow")
        slow.start()
        assert held.wait(10)
        store.put(KEY, b"fast")
        go.set()
        slow.join()
    finally:
        durable.system = before
    assert len(outcome) == 1
    assert _files(store) == {KEY: b"fast"}


def test_ten_thousand_objects_are_listed_at_once(store: FolderStore) -> None:
    for number in range(10_000):
        file = store.path / f"packs/{number % 256:02x}/{number:032x}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    seconds = []
    for _ in range(7):
        begun = time.thread_time()
        assert sum(1 for _ in store.list()) == 10_000
        seconds.append(time.thread_time() - begun)
    # 0.04 s where this was written; a processor that is shared is slower, but not by so much.
    assert min(seconds) < 0.1

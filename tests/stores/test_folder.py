"""The backup folder: published whole and once, exclusive, swept of what is ours (ordering.md, 1, 2, 5, 8, 10)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from resurgam import durable
from resurgam.errors import BusyError, NotFoundError, StorageError
from resurgam.stores.folder import BackupFolder
from tests.operations.namespaces import KILLED, in_child

NAME = "radiology_backup_20250104_143022"


@pytest.fixture
def folder(tmp_path: Path) -> BackupFolder:
    made = BackupFolder(tmp_path / "backups")
    made.prepare()
    return made


def _write(folder: BackupFolder, name: str = NAME, content: bytes = b"archive") -> None:
    with folder.create(name) as partial:
        durable.write_all(partial.fd, content)
        partial.publish()


def test_sentence_5_the_partial_file_is_hidden_exclusive_and_private(folder: BackupFolder) -> None:
    with folder.create(NAME) as partial:
        assert partial.path.name == f".{NAME}.tar.gz.partial"
        assert partial.path.stat().st_mode & 0o777 == 0o600
        assert folder.archives() == []
        with pytest.raises(StorageError), folder.create(NAME):
            pass
        assert partial.path.exists()
    assert list(folder.path.iterdir()) == []


def test_sentence_8_publication_replaces_nothing(folder: BackupFolder) -> None:
    _write(folder)
    with pytest.raises(StorageError, match="was not replaced"):
        _write(folder, content=b"another")
    assert folder.archive_path(NAME).read_bytes() == b"archive"
    assert [path.name for path in folder.path.iterdir()] == [f"{NAME}.tar.gz"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_publication_where_a_rename_can_not_be_told_to_replace_nothing(
    folder: BackupFolder, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*arguments: Any) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(durable, "_renameat2", refuse)
    _write(folder)
    with pytest.raises(StorageError):
        _write(folder, content=b"another")
    assert folder.archive_path(NAME).read_bytes() == b"archive"
    assert [path.name for path in folder.path.iterdir()] == [f"{NAME}.tar.gz"]


def test_sentence_10_a_failure_leaves_no_trace(folder: BackupFolder) -> None:
    with pytest.raises(KeyboardInterrupt), folder.create(NAME) as partial:
        os.write(partial.fd, b"half")
        raise KeyboardInterrupt
    assert list(folder.path.iterdir()) == []


def test_sentence_1_one_run_at_a_time_and_a_crash_blocks_nobody(folder: BackupFolder) -> None:
    with folder.lock(), pytest.raises(BusyError), folder.lock():
        pass

    def die_holding_it() -> None:
        with folder.lock():
            os.kill(os.getpid(), 9)

    assert in_child(die_holding_it) == KILLED
    with folder.lock():
        pass


def test_sentence_2_only_partial_files_of_ours_are_swept(folder: BackupFolder) -> None:
    names = [
        f".{NAME}.tar.gz.partial",
        ".other.partial",
        "wal.partial",
        f"{NAME}.tar.gz",
        f".{NAME}.tar.gz.partial.txt",
    ]
    for name in names:
        (folder.path / name).write_text("x")
    with folder.lock():
        assert folder.sweep() == (names[0],)
    assert {path.name for path in folder.path.iterdir()} - {".resurgam.lock"} == set(names[1:])


def test_delete(folder: BackupFolder) -> None:
    _write(folder)
    assert folder.delete(NAME) == len(b"archive")
    with pytest.raises(NotFoundError):
        folder.delete(NAME)


def test_a_lock_that_is_a_link_elsewhere_is_not_followed(folder: BackupFolder, tmp_path: Path) -> None:
    (folder.path / ".resurgam.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError), folder.lock():
        pass
    assert not (tmp_path / "victim").exists()


def test_a_folder_that_is_a_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(StorageError) as caught:
            BackupFolder(path).prepare()
        assert caught.value.hint


def test_listing_an_unreadable_folder_is_not_an_empty_one(
    folder: BackupFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied")  # modes do not stop root

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageError, match="can not be read"):
        folder.archives()

"""The remote folder on mounts that lack calls, lie, or are not there (docs/ordering.md, 12 to 14)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from resurgam.errors import NotFoundError, StorageError
from resurgam.stores.mounted import MARKER, RemoteFolder
from tests.clusters import ROOT
from tests.operations.namespaces import KILLED, in_child

NAME = "radiology_backup_20250104_143022"
CONTENT = os.urandom(300_000)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / f"{NAME}.tar.gz"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def remote(tmp_path: Path) -> RemoteFolder:
    made = RemoteFolder(tmp_path / "remote")
    made.set_up()
    return made


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != MARKER)


def test_a_copy_is_equal_and_alone(remote: RemoteFolder, source: Path) -> None:
    counted: list[int] = []
    remote.copy(source, NAME, counted.append)
    assert (remote.path / source.name).read_bytes() == CONTENT
    assert sum(counted) == len(CONTENT)
    assert _names(remote.path) == [source.name]
    (found,) = remote.archives()
    assert (found.name, found.size) == (NAME, len(CONTENT))


def test_sentence_12_without_the_marker_nothing_is_written_and_nothing_believed(tmp_path: Path, source: Path) -> None:
    for path in (tmp_path / "unmounted", tmp_path / "missing"):
        remote = RemoteFolder(path)
        if path.name == "unmounted":
            path.mkdir()
        for act in (
            lambda remote=remote: remote.copy(source, NAME),
            remote.archives,
            lambda remote=remote: remote.delete(NAME),
            lambda remote=remote: remote.sweep("radiology"),
        ):
            with pytest.raises(StorageError, match="marker"):
                act()
    assert list((tmp_path / "unmounted").iterdir()) == []
    assert not (tmp_path / "missing").exists()


def test_a_damaged_copy_is_replaced(remote: RemoteFolder, source: Path) -> None:
    (remote.path / source.name).write_bytes(CONTENT[:1000])
    remote.copy(source, NAME)
    assert (remote.path / source.name).read_bytes() == CONTENT


def test_an_interrupted_copy_leaves_nothing_visible_and_is_swept(remote: RemoteFolder, source: Path) -> None:
    def die(count: int) -> None:
        os.kill(os.getpid(), 9)

    assert in_child(lambda: remote.copy(source, NAME, die)) == KILLED
    assert remote.archives() == []
    assert _names(remote.path) == [f".{NAME}.tar.gz.partial"]
    (remote.path / "other.partial").write_text("")
    remote.sweep("radiology")
    assert _names(remote.path) == ["other.partial"]
    remote.copy(source, NAME)
    assert remote.archives()[0].size == len(CONTENT)


def test_a_source_that_vanishes_leaves_nothing(remote: RemoteFolder, source: Path) -> None:
    source.unlink()
    with pytest.raises(StorageError, match="local backup is untouched"):
        remote.copy(source, NAME)
    assert _names(remote.path) == []


def test_delete(remote: RemoteFolder, source: Path) -> None:
    remote.copy(source, NAME)
    remote.delete(NAME)
    with pytest.raises(NotFoundError):
        remote.delete(NAME)


# On a mount that refuses


def _can_fuse() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse can not be opened here"
    return "" if shutil.which("fusermount3") or shutil.which("fusermount") else "fusermount is not installed"


needs_fuse = pytest.mark.skipif(bool(_can_fuse()), reason=_can_fuse())


@contextmanager
def _mounted(tmp_path: Path, *faults: str) -> Iterator[Path]:
    backing, point = tmp_path / "backing", tmp_path / "mount"
    backing.mkdir()
    point.mkdir()
    (backing / MARKER).write_text("")
    command = [sys.executable, "-m", "tests.stores.faulty_mount", str(backing), str(point), *faults]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 15
        while not point.is_mount():
            if process.poll() is not None and process.stdout is not None:
                pytest.skip(f"no mount is to be had here: {process.stdout.read().decode()[-200:]}")
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield point
    finally:
        program = shutil.which("fusermount3") or shutil.which("fusermount") or "umount"
        subprocess.run([program, "-u", "-z", str(point)], check=False, capture_output=True)
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


@needs_fuse
@pytest.mark.parametrize(
    "faults",
    [(), ("rename",), ("fsync",), ("chmod", "link"), ("rename", "link", "fsync", "chmod", "append")],
    ids=lambda faults: "+".join(faults) or "none",
)
def test_sentence_13_copies_work_whatever_the_mount_does_not_know(
    tmp_path: Path, source: Path, faults: tuple[str, ...]
) -> None:
    with _mounted(tmp_path, *faults) as point:
        remote = RemoteFolder(point)
        remote.copy(source, NAME)
        assert _names(point) == [source.name]
        assert (tmp_path / "backing" / source.name).read_bytes() == CONTENT
        (tmp_path / "backing" / source.name).write_bytes(b"cut")
        remote.copy(source, NAME)
        assert (tmp_path / "backing" / source.name).read_bytes() == CONTENT
        remote.sweep("radiology")
        remote.delete(NAME)
        assert _names(point) == []


@needs_fuse
@pytest.mark.parametrize("rename", [(), ("rename",)], ids=["renames", "does not rename"])
@pytest.mark.parametrize("fault", ["flip", "close", "full=100000"])
def test_sentence_14_a_copy_that_is_not_equal_does_not_stay(
    tmp_path: Path, source: Path, fault: str, rename: tuple[str, ...]
) -> None:
    with _mounted(tmp_path, fault, *rename) as point:
        with pytest.raises(StorageError, match="local backup is untouched"):
            RemoteFolder(point).copy(source, NAME)
        assert _names(point) == []
    assert source.read_bytes() == CONTENT


@needs_fuse
def test_a_mount_that_dies_is_told(tmp_path: Path, source: Path) -> None:
    with _mounted(tmp_path) as point:
        remote = RemoteFolder(point)
        remote.copy(source, NAME)
    with pytest.raises(StorageError):
        remote.copy(source, NAME)

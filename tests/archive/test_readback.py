"""docs/ordering.md, sentence 7: every stored byte is read back, early where the system can push it to the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from resurgam.archive import readback
from resurgam.archive.readback import ReadBack, Span
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.errors import StorageError

BLOCK = 8 << 20
BLOCKS = 11  # two full stretches of 32 MiB, and a rest


@pytest.fixture
def stored(tmp_path: Path) -> tuple[int, list[Span]]:
    fd = os.open(tmp_path / "stored", os.O_RDWR | os.O_CREAT)
    spans = []
    for number in range(BLOCKS):
        data = bytes([number]) * BLOCK
        os.pwrite(fd, data, number * BLOCK)
        spans.append(Span(number * BLOCK, BLOCK, blake3(data).digest()))
    return fd, spans


def check(fd: int, spans: list[Span]) -> None:
    back = ReadBack(fd)
    for span in spans:
        back.add(span)
    os.fsync(fd)
    back.finish()


def test_what_was_written_passes(stored: tuple[int, list[Span]]) -> None:
    check(*stored)


@pytest.mark.parametrize("number", [0, 3, 4, 7, 8, BLOCKS - 1])
def test_a_changed_byte_in_any_stretch_is_found(stored: tuple[int, list[Span]], number: int) -> None:
    fd, spans = stored
    os.pwrite(fd, b"\xff", number * BLOCK + 12_345)
    with pytest.raises(StorageError, match="other bytes than were written"):
        check(fd, spans)


def test_a_file_that_lost_its_end_is_found(stored: tuple[int, list[Span]]) -> None:
    fd, spans = stored
    os.ftruncate(fd, BLOCK * BLOCKS - 1)
    with pytest.raises(StorageError, match="shorter"):
        check(fd, spans)


def test_where_nothing_can_be_pushed_early_all_is_read_at_the_end(
    stored: tuple[int, list[Span]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readback, "_sync_file_range", None)
    fd, spans = stored
    check(fd, spans)
    os.pwrite(fd, b"\xff", 12_345)
    with pytest.raises(StorageError):
        check(fd, spans)


def test_what_the_thread_did_not_get_to_is_checked_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that dies must not leave bytes unread behind it."""
    monkeypatch.setattr(readback, "_STRETCH", 1)
    monkeypatch.setattr(threading, "excepthook", lambda details: None)
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    os.write(fd, bytes(4_000))

    def dies(stretch: object) -> bool:
        raise MemoryError

    for wrong in range(4):
        back = ReadBack(fd)
        monkeypatch.setattr(back, "_push", dies)
        for number in range(4):
            content = b"x" * 1_000 if number == wrong else bytes(1_000)
            back.add(Span(number * 1_000, 1_000, blake3(content).digest()))
        with pytest.raises(StorageError):
            back.finish()
    os.close(fd)


def test_a_writer_that_can_not_begin_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(StorageError):
        ArchiveWriter(PlainSink(fd), "b", mtime_ns=0)
    os.close(fd)
    assert set(threading.enumerate()) <= before

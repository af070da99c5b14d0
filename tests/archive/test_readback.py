"""docs/ordering.md, sentence 7: every stored byte is read back, early where the system can push it to the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from blake3 import blake3

from resurgam.archive import readback
from resurgam.archive.readback import ReadBack, Span
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

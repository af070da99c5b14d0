"""The listing that a running service asks: fresh where something changed, cheap where not, never kept waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resurgam.catalog.catalog import Catalog
from resurgam.errors import NotFoundError, UsageError
from resurgam.operations.archive_holdings import ArchiveHoldings
from resurgam.operations.inventory import Inventory
from resurgam.operations.listing import Listing
from resurgam.stores.folder import BackupFolder
from resurgam.stores.listing import FoundArchive
from resurgam.stores.mounted import RemoteFolder
from tests.archive.trees import file, write_archive
from tests.operations.scene import SkippingClock


def _name(number: int) -> str:
    return f"radiology_backup_2025{number // 28 + 1:02}{number % 28 + 1:02}_020000"


def _add(folder: Path, number: int) -> str:
    return write_archive(folder, [file("config/a", b"a")], _name(number)).name.removesuffix(".tar.gz")


@pytest.fixture
def clock() -> SkippingClock:
    return SkippingClock()


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    local, remote = tmp_path / "local", tmp_path / "remote"
    local.mkdir()
    RemoteFolder(remote).set_up()
    return local, remote


@pytest.fixture
def listing(places: tuple[Path, Path], clock: SkippingClock) -> Iterator[Listing]:
    folder = BackupFolder(places[0])
    with Catalog.open(places[0].parent / "catalog.sqlite") as catalog:
        yield Listing(Inventory(folder, ArchiveHoldings(folder), RemoteFolder(places[1]), catalog), clock)


def _names(listing: Listing) -> list[str]:
    return [record.name for record in listing.records()]


def _until(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_added_and_deleted_is_seen_at_once(listing: Listing, places: tuple[Path, Path]) -> None:
    assert _names(listing) == []
    for number in range(4):
        name = _add(places[0], number)
        assert _names(listing)[0] == name and listing.find(f"{name}.tar.gz").name == name
    (places[0] / f"{_name(2)}.tar.gz").unlink()
    assert _names(listing) == [_name(3), _name(1), _name(0)]
    with pytest.raises(NotFoundError):
        listing.find(_name(2))


def test_what_changes_in_place_is_seen_in_seconds(
    listing: Listing, places: tuple[Path, Path], clock: SkippingClock
) -> None:
    path = places[0] / f"{_add(places[0], 0)}.tar.gz"
    clock.sleep(60)
    assert listing.records()[0].condition == "good"
    path.write_bytes(path.read_bytes()[:200])
    clock.sleep(6)
    assert listing.records()[0].condition == "damaged"


def test_nothing_is_read_again_while_nothing_changes(
    listing: Listing, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(places[0], 0)
    time.sleep(0.1)
    listing.records()
    _until(lambda: not any(thread.name == "resurgam-remote" for thread in threading.enumerate()))
    first = listing.records()
    monkeypatch.setattr(BackupFolder, "archives", lambda folder: pytest.fail("it was read"))
    assert listing.records() is first


def test_a_remote_folder_that_hangs_keeps_nobody(
    listing: Listing, places: tuple[Path, Path], clock: SkippingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(places[0], 0)
    _add(places[1], 1)
    _until(lambda: _names(listing) == [_name(1), _name(0)])
    answer, calls, real = threading.Event(), [], RemoteFolder.archives

    def hangs(folder: RemoteFolder) -> list[FoundArchive]:
        calls.append(1)
        answer.wait(20)
        return real(folder)

    monkeypatch.setattr(RemoteFolder, "archives", hangs)
    (places[1] / f"{_name(1)}.tar.gz").unlink()
    for _ in range(3):
        clock.sleep(61)
        began = time.monotonic()
        assert _names(listing) == [_name(1), _name(0)]  # as last seen
        assert time.monotonic() - began < 1
    assert len(calls) == 1
    answer.set()
    _until(lambda: _names(listing) == [_name(0)])


def test_a_remote_folder_that_is_gone_is_told_and_not_forgotten(
    listing: Listing, places: tuple[Path, Path], clock: SkippingClock
) -> None:
    _add(places[1], 1)
    _until(lambda: _names(listing) == [_name(1)])
    (places[1] / ".resurgam-remote").unlink()

    def told() -> bool:
        clock.sleep(61)  # each time: a look that began before may end only now
        listing.records()
        return "no marker" in listing.remote_problem

    _until(told)
    assert _names(listing) == [_name(1)]


def test_pages_hold_while_backups_come_and_go(listing: Listing, places: tuple[Path, Path]) -> None:
    for number in range(7):
        _add(places[0], number)
    page, cursor = listing.page(3, None)
    assert [one.name for one in page] == [_name(6), _name(5), _name(4)]
    (places[0] / f"{_name(4)}.tar.gz").unlink()
    _add(places[0], 8)
    page, cursor = listing.page(3, cursor)
    assert [one.name for one in page] == [_name(3), _name(2), _name(1)]
    page, cursor = listing.page(3, cursor)
    assert [one.name for one in page] == [_name(0)] and cursor is None
    for wrong in ("", "x", "1-2", "1-2-" + "a" * 300):
        with pytest.raises(UsageError):
            listing.page(3, wrong)

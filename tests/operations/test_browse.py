"""Browsing: pages of a folder, in bounded memory, whatever its entries are called."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from resurgam.archive.entry import Entry, Kind
from resurgam.errors import NotFoundError
from resurgam.operations.browse import browse


class Stub:
    """An archive of entries alone."""

    name = "radiology_backup_20250104_143022"

    def __init__(self, *paths: str | bytes, count: int = 0) -> None:
        self._paths, self._count = paths, count

    def entries(self) -> Iterator[Entry]:
        for path in self._paths:
            raw = path.encode() if isinstance(path, str) else path
            kind = Kind.FOLDER if raw.endswith(b"/") else Kind.FILE
            yield Entry(raw.rstrip(b"/"), kind, 0o644)
        for number in range(self._count):
            yield Entry(b"big/%08d" % number, Kind.FILE, 0o644)


def _all(archive: Any, path: str, limit: int) -> list[str]:
    names: list[str] = []
    after = None
    while True:
        page = browse(archive, path, limit, after)
        names += [child.name for child in page.children]
        after = page.following
        if after is None:
            return names


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_join_up(limit: int) -> None:
    archive = Stub("a/", "a/2", "a/1", "a/d/x", "a/d/y", "a/ü", b"a/\xff", "ab", "a-b", "b/c")
    assert _all(archive, "", limit) == ["a", "a-b", "ab", "b"]
    assert _all(archive, "a", limit) == ["1", "2", "\\xff", "d", "ü"]
    assert _all(archive, "a/d", limit) == ["x", "y"]


def test_a_folder_without_an_entry_is_one() -> None:
    child = browse(Stub("x/y/z"), "", 10, None).children[0].to_json()
    assert child["kind"] == "folder" and child["mtime"] is None and child["mode"] is None


def test_what_is_no_folder() -> None:
    for path in ("nothing", "a/1", "..", "a/../a", "\\xff"):
        with pytest.raises(NotFoundError):
            browse(Stub("a/", "a/1"), path, 10, None)


def test_an_empty_folder_is_there() -> None:
    assert browse(Stub("a/"), "a", 10, None).children == ()


def test_a_time_beyond_time() -> None:
    class Odd(Stub):
        def entries(self) -> Iterator[Entry]:
            yield Entry(b"a", Kind.FILE, 0o644, mtime_ns=(1 << 62))

    assert browse(Odd(), "", 10, None).children[0].to_json()["mtime"] is not None


def test_memory_is_the_pages() -> None:
    tracemalloc.start()
    try:
        page = browse(Stub(count=100_000), "big", 10, "00050000")
        assert [child.name for child in page.children] == [f"{number:08}" for number in range(50_001, 50_011)]
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.errors import SettingsError
from resurgam.settings import FileTree
from resurgam.sources.excludes import Excludes, Matcher
from resurgam.sources.files import capture_tree
from tests.sources.sinks import KeptEntries

FILES = (
    "a.tmp",
    "keep.txt",
    "cache/x",
    "sub/cache/y",
    "sub/a.tmp",
    "tmp/one",
    "tmp/deep/two",
    "sub/tmp/three",
    "sub/file/cache",
    "x[1].dat",
    "ä1",
)


@pytest.mark.parametrize(
    ("patterns", "gone"),
    [
        (("*.tmp",), {"a.tmp", "sub/a.tmp"}),
        (("cache/",), {"cache/x", "sub/cache/y"}),
        (("cache",), {"cache/x", "sub/cache/y", "sub/file/cache"}),
        (("/uploads/tmp/**",), {"tmp/one", "tmp/deep/two"}),
        (("uploads/tmp",), {"tmp/one", "tmp/deep/two"}),
        (("uploads/**/tmp/",), {"tmp/one", "tmp/deep/two", "sub/tmp/three"}),
        (("**/two",), {"tmp/deep/two"}),
        (("/uploads/*/tmp",), {"sub/tmp/three"}),
        (("/tmp",), set()),
        (("x\\[1\\].dat",), {"x[1].dat"}),
        (("x[[]1].dat",), {"x[1].dat"}),
        (("?1",), {"ä1"}),
        (("[!a-z]1",), {"ä1"}),
        (("[z-a]*",), None),
    ],
)
def test_patterns(tmp_path: Path, patterns: tuple[str, ...], gone: set[str] | None) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    sink = KeptEntries()
    if gone is None:
        with pytest.raises(SettingsError):
            capture_tree(FileTree("uploads", tmp_path, True), sink, excludes=Excludes(patterns))
        return
    capture_tree(FileTree("uploads", tmp_path, True), sink, excludes=Excludes(patterns))
    assert {f"files/uploads/{name}".encode() for name in FILES if name not in gone} <= set(sink.paths())
    assert not {f"files/uploads/{name}".encode() for name in gone} & set(sink.paths())


def test_the_folder_itself_stays_when_only_its_contents_are_excluded(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    sink = KeptEntries()
    capture_tree(FileTree("uploads", tmp_path, True), sink, excludes=Excludes(("/uploads/tmp/**",)))
    assert sink.paths() == [b"files/uploads", b"files/uploads/tmp"]


@pytest.mark.parametrize("pattern", ["", "/", "!keep", "a\0b"])
def test_patterns_that_are_not_understood_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Matcher(Excludes((pattern,)))
    assert repr(pattern) in caught.value.message

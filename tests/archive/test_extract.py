"""Extraction: what was captured comes back exactly, and nothing hostile leaves the staging folder."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.extract import ExtractLimits, ExtractReport, Outside, extract
from resurgam.errors import DamagedError, HostileError, ResurgamError, StorageError
from resurgam.settings import FileTree
from resurgam.sources.excludes import Excludes
from resurgam.sources.files import capture_tree
from tests.sources.sinks import KeptEntries

TOP = b"files/t/"
ME, MINE = os.getuid(), os.getgid()
LIMITS = ExtractLimits()


def file(name: bytes, data: bytes = b"data", mode: int = 0o644) -> tuple[Entry, list[bytes]]:
    return Entry(TOP + name, Kind.FILE, mode, ME, MINE, mtime_ns=5, size=len(data)), [data]


def folder(name: bytes, mode: int = 0o755) -> tuple[Entry, list[bytes]]:
    return Entry((TOP + name).rstrip(b"/"), Kind.FOLDER, mode, ME, MINE, mtime_ns=5), []


def link(name: bytes, target: bytes, kind: Kind) -> tuple[Entry, list[bytes]]:
    return Entry(TOP + name, kind, 0o777, ME, MINE, mtime_ns=5, target=target), []


def soft(name: bytes, target: bytes) -> tuple[Entry, list[bytes]]:
    return link(name, target, Kind.SYMLINK)


def hard(name: bytes, target: bytes) -> tuple[Entry, list[bytes]]:
    return link(name, TOP + target, Kind.HARDLINK)


def unpack(
    entries: Iterable[tuple[Entry, Iterable[bytes]]],
    where: Path,
    limits: ExtractLimits = LIMITS,
    own: bool = True,
    outside: Outside | None = None,
) -> ExtractReport:
    where.mkdir(mode=0o700, exist_ok=True)
    return extract(entries, TOP, where, limits=limits, own=own, outside=outside)


def snapshot(top: Path) -> dict[str, object]:
    """Everything a tree is, by name: mode, owner, time, content, target, and which names share an inode."""
    seen: dict[str, object] = {}
    inodes: dict[int, str] = {}
    for path in sorted([top, *top.rglob("*")]):
        status = path.lstat()
        name = str(path.relative_to(top))
        what: object = None
        if stat.S_ISLNK(status.st_mode):
            what = os.readlink(path)
        elif stat.S_ISREG(status.st_mode):
            what = (path.read_bytes(), inodes.setdefault(status.st_ino, name))
        seen[name] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, what)
    return seen


def build(tree: Path) -> None:
    """A tree with one of everything."""
    (tree / "a" / "empty").mkdir(parents=True)
    (tree / "a" / "file").write_bytes(b"content" * 1000)
    (tree / "a.b").write_bytes(b"")
    os.link(tree / "a" / "file", tree / "z-hard")
    (tree / "leaves").symlink_to("/etc/passwd")
    (tree / "to-folder").symlink_to("a")
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9\n")).write_bytes(b"latin")
    with (tree / "sparse").open("wb") as sparse:
        sparse.seek(5 << 20)
        sparse.write(b"x" * 10)
        sparse.truncate(9 << 20)
    os.chmod(tree / "a.b", 0o4751)
    os.chmod(tree / "a" / "empty", 0o3555)
    if ME == 0:
        os.lchown(tree / "leaves", 1234, 4321)
        os.chown(tree / "a" / "file", 12345, 54321)
    os.utime(tree / "leaves", ns=(1, 10**9 + 1), follow_symlinks=False)
    for path in (tree / "a" / "file", tree / "a" / "empty", tree / "a", tree):
        os.utime(path, ns=(1, 1_600_000_000_123_456_789))


def test_what_was_captured_comes_back_exactly(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    build(tree)
    sink = KeptEntries()
    capture_tree(FileTree("t", tree, True), sink, excludes=Excludes())
    report = unpack([(entry, [sink.content[entry.path]]) for entry in sink.order], tmp_path / "staging")
    assert snapshot(tmp_path / "staging") == snapshot(tree)
    assert (tmp_path / "staging" / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (report.files, report.folders, report.symlinks, report.hardlinks) == (4, 3, 2, 1)
    assert report.owners


def test_holes_are_made_however_the_blocks_are_cut(tmp_path: Path) -> None:
    data = bytes(10_000) + b"one" + bytes(50_001) + b"two" + bytes(30_000)
    for size in (1, 4095, 4096, 4097, 70_000):
        entry = Entry(TOP + b"f%d" % size, Kind.FILE, 0o644, size=len(data), sparse=True)
        blocks = [data[start : start + size] for start in range(0, len(data), size)]
        where = tmp_path / str(size)
        unpack([(entry, blocks)], where, own=False)
        (made,) = where.iterdir()
        assert made.read_bytes() == data and made.stat().st_blocks * 512 < 20_000


def test_only_what_is_below_the_prefix_is_written(tmp_path: Path) -> None:
    others = [
        (entry._replace(path=path), blocks)
        for path in (b"files/t2/x", b"config/x", b"files/t")
        for entry, blocks in [file(b"")]
    ]
    assert unpack([*others, file(b"x")], tmp_path / "s").files == 1
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["x"]


def test_a_missing_entry_for_a_folder_gives_it_the_usual_mode(tmp_path: Path) -> None:
    unpack([file(b"a/b/c"), folder(b"a", 0o700)], tmp_path / "s")
    assert [oct((tmp_path / "s" / name).stat().st_mode)[-3:] for name in ("", "a", "a/b")] == ["755", "700", "755"]


def test_a_folder_s_name_may_end_in_a_slash(tmp_path: Path) -> None:
    entry, _ = folder(b"a")
    unpack([(entry._replace(path=entry.path + b"/"), [])], tmp_path / "s")
    assert (tmp_path / "s" / "a").is_dir()


def test_setuid_comes_back_only_with_the_owner(tmp_path: Path) -> None:
    unpack([file(b"x", mode=0o6755)], tmp_path / "no", own=False)
    unpack([file(b"x", mode=0o6755)], tmp_path / "own", own=True)
    assert (tmp_path / "no" / "x").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "own" / "x").stat().st_mode & 0o7777 == 0o6755


@pytest.mark.skipif(ME == 0, reason="root may give files away")
def test_an_owner_that_can_not_be_given_is_reported_and_costs_setuid(tmp_path: Path) -> None:
    entry, blocks = file(b"x", mode=0o6755)
    assert not unpack([(entry._replace(uid=0), blocks)], tmp_path / "s").owners
    assert (tmp_path / "s" / "x").stat().st_mode & 0o7777 == 0o755


@pytest.mark.skipif(ME != 0, reason="only root may give files away")
def test_a_known_name_goes_before_the_number(tmp_path: Path) -> None:
    entry, blocks = file(b"x")
    named = entry._replace(uid=4242, gid=4242, uname="nobody", gname="no such group")
    unpack([(named, blocks)], tmp_path / "s")
    status = (tmp_path / "s" / "x").stat()
    assert (status.st_uid, status.st_gid) == (__import__("pwd").getpwnam("nobody").pw_uid, 4242)


def test_a_hard_link_out_of_the_tree_is_copied_if_the_caller_can_read_it(tmp_path: Path) -> None:
    links = [link(name, b"files/other/x", Kind.HARDLINK) for name in (b"a", b"b")]
    with pytest.raises(HostileError, match="outside its tree"):
        unpack(links, tmp_path / "no")
    source = Entry(b"files/other/x", Kind.FILE, 0o600, ME, MINE, mtime_ns=9, size=3)
    unpack(links, tmp_path / "s", outside=lambda path: (source, [b"abc"]))
    for name in ("a", "b"):
        assert (tmp_path / "s" / name).read_bytes() == b"abc" and (tmp_path / "s" / name).stat().st_mtime_ns == 9
    with pytest.raises(HostileError, match="not a file"):
        unpack(links, tmp_path / "s2", outside=lambda path: (source._replace(kind=Kind.SYMLINK), []))


HOSTILE: dict[str, list[tuple[Entry, list[bytes]]]] = {
    "symlink, then a file through it": [soft(b"a", b"/tmp"), file(b"a/evil")],
    "symlink, then a folder in its place": [soft(b"a", b"/tmp"), folder(b"a"), file(b"a/evil")],
    "file through a symlink made before": [folder(b"a"), soft(b"a/b", b".."), file(b"a/b/evil")],
    "file, then a symlink of its name": [file(b"a"), soft(b"a", b"/etc")],
    "symlink through a symlink": [soft(b"a", b"/tmp"), soft(b"a/evil", b"x")],
    "hard link through a symlink": [file(b"f"), soft(b"a", b"/tmp"), hard(b"a/evil", b"f")],
    "hard link to a symlink": [soft(b"a", b"/etc/passwd"), hard(b"b", b"a")],
    "hard link to a folder": [folder(b"a"), hard(b"b", b"a")],
    "hard link to a hard link": [file(b"f"), hard(b"a", b"f"), hard(b"b", b"a")],
    "hard link to nothing": [hard(b"b", b"a")],
    "hard link to a later file": [hard(b"b", b"a"), file(b"a")],
    "hard link to itself": [hard(b"a", b"a")],
    "hard link to the top": [hard(b"a", b"")],
    "hard link out by dots": [link(b"a", TOP + b"../../etc/passwd", Kind.HARDLINK)],
    "hard link to an absolute path": [link(b"a", b"/etc/passwd", Kind.HARDLINK)],
    "hard link below a file": [file(b"f"), file(b"g"), hard(b"f/a", b"g")],
    "hard link's target below a file": [file(b"f"), hard(b"a", b"f/x")],
    "the same file twice": [file(b"a"), file(b"a")],
    "the same folder twice": [folder(b"a"), folder(b"a")],
    "the top twice": [folder(b""), folder(b"")],
    "the same link twice": [soft(b"a", b"x"), soft(b"a", b"y")],
    "file, then folder": [file(b"a"), folder(b"a")],
    "folder, then file": [folder(b"a"), file(b"a")],
    "implied folder, then file": [file(b"a/b"), file(b"a")],
    "below a file": [file(b"a"), file(b"a/b")],
    "dots": [file(b"../evil")],
    "dots inside": [file(b"a/../../evil")],
    "dots at the end": [folder(b"a/..")],
    "a dot": [file(b"./a")],
    "empty part": [file(b"a//b")],
    "slash in front": [file(b"/etc/evil")],
    "slash at a file's end": [file(b"a/")],
    "only the prefix": [file(b"")],
    "NUL": [file(b"a\0b")],
    "long part": [file(b"x" * 256)],
    "long path": [file(b"/".join([b"x" * 250] * 20))],
    "deep": [file(b"/".join([b"x"] * 200))],
    "more bytes than announced": [(file(b"a")[0], [b"da", b"ta", b"!"])],
    "more bytes than announced, sparse": [(file(b"a")[0]._replace(sparse=True), [b"da", b"ta!"])],
    "negative size": [(file(b"a")[0]._replace(size=-1), [])],
    "impossible owner": [(file(b"a")[0]._replace(uid=(1 << 32) - 1), [b"data"])],
    "negative owner": [(file(b"a")[0]._replace(gid=-2), [b"data"])],
    "impossible time": [(file(b"a")[0]._replace(mtime_ns=10**40), [b"data"])],
    "empty symlink": [soft(b"a", b"")],
    "symlink with NUL": [soft(b"a", b"x\0y")],
    "symlink too long": [soft(b"a", b"x" * 5000)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries_are_refused_and_nothing_leaves_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "s").mkdir()
    evil = Path("/tmp/evil")
    with pytest.raises(HostileError) as caught:
        unpack(HOSTILE[name], tmp_path / "s")
    assert caught.value.message.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["s"] and not evil.exists()


def test_missing_bytes_are_damage(tmp_path: Path) -> None:
    for sparse in (False, True):
        with pytest.raises(DamagedError, match="after 2 of 4"):
            unpack([(file(b"a")[0]._replace(sparse=sparse), [b"da"])], tmp_path / str(sparse))


def test_limits(tmp_path: Path) -> None:
    with pytest.raises(HostileError, match="more than 2 files"):
        unpack([file(b"a"), soft(b"b", b"x"), folder(b"c")], tmp_path / "1", ExtractLimits(members=2))
    with pytest.raises(HostileError, match="7 bytes"):
        unpack([file(b"a"), file(b"b")], tmp_path / "2", ExtractLimits(bytes=7))
    assert not (tmp_path / "2" / "b").exists()


def test_a_staging_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x").write_bytes(b"kept")
    with pytest.raises(StorageError, match="not empty"):
        unpack([file(b"x")], tmp_path / "s")
    assert (tmp_path / "s" / "x").read_bytes() == b"kept"


PARTS = st.sampled_from([b"a", b"b", b"A", b"..", b".", b"", b"x\0", b"\xff", "ä".encode(), b"a" * 256, b"l", b"/"])
PATHS = st.lists(PARTS, max_size=4).map(b"/".join)
TARGETS = st.one_of(PATHS, PATHS.map(lambda path: TOP + path), st.sampled_from([b"..", b"../..", b"/", b"../canary"]))
ENTRIES = st.builds(
    Entry,
    path=st.one_of(PATHS.map(lambda path: TOP + path), PATHS),
    kind=st.sampled_from(Kind),
    mode=st.integers(0, 0o7777),
    uid=st.just(ME),
    gid=st.just(MINE),
    mtime_ns=st.integers(-(1 << 70), 1 << 70),
    size=st.integers(0, 9),
    target=TARGETS,
    sparse=st.booleans(),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(ENTRIES, st.lists(st.binary(max_size=9), max_size=2)), max_size=12))
def test_whatever_comes_in_nothing_outside_the_folder_changes(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[Entry, list[bytes]]]
) -> None:
    top = tmp_path_factory.mktemp("x")
    (top / "canary").write_bytes(b"alive")
    (top / "up" / "s").mkdir(parents=True)
    before = snapshot(top / "canary"), sorted(os.listdir(top)), sorted(os.listdir(top / "up"))
    with contextlib.suppress(ResurgamError):
        unpack(entries, top / "up" / "s")
    assert (top / "canary").stat().st_nlink == 1
    assert before == (snapshot(top / "canary"), sorted(os.listdir(top)), sorted(os.listdir(top / "up")))
    subprocess.run(["chmod", "-R", "u+rwx", str(top)], check=False)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    unpack([file(b"a/b/c/d"), hard(b"a/z", b"a/b/c/d")], tmp_path / "1")
    with pytest.raises(HostileError):
        unpack([file(b"a/b/c/d"), file(b"a/b/c/d")], tmp_path / "2")
    assert len(os.listdir("/proc/self/fd")) == before


NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {b"/", b"\0"} & {bytes([byte]) for byte in name} and not name.startswith(b".")
)
TREES = st.recursive(
    st.one_of(st.binary(max_size=300), st.binary(max_size=20).map(lambda data: data + bytes(4500)), st.none()),
    lambda children: st.dictionaries(NAMES, children, max_size=5),
    max_leaves=12,
)


def plant(where: bytes, tree: object) -> None:
    """Folders from dictionaries, files from bytes, symlinks from None."""
    if isinstance(tree, dict):
        os.mkdir(where)
        for name, below in tree.items():
            plant(where + b"/" + name, below)
    elif isinstance(tree, bytes):
        with open(where, "wb") as file:
            file.write(tree.rstrip(b"\0"))
            file.truncate(len(tree))
    else:
        os.symlink(b"../" + where[-5:].replace(b"\0", b""), where)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.dictionaries(NAMES, TREES, max_size=6))
def test_any_tree_comes_back(tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, object]) -> None:
    top = tmp_path_factory.mktemp("t")
    plant(os.fsencode(top) + b"/tree", tree)
    sink = KeptEntries()
    capture_tree(FileTree("t", top / "tree", True), sink, excludes=Excludes())
    unpack([(entry, [sink.content[entry.path]]) for entry in sink.order], top / "staging")
    assert snapshot(top / "staging") == snapshot(top / "tree")

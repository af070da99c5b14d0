"""Archives in the manual's layout that other programs made: read whole, and refused when they are not (6)."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.opening import open_archive
from resurgam.errors import ArchiveError, DamagedError, HostileError
from tests.archive.tars import DUMP, FIELDS, lay_out, member, packed, tar
from tests.archive.trees import DATABASE, NAME
from tests.sampling import randomness, sample

MAKERS = {
    **{
        f"GNU tar, {form}": ["tar", f"--format={form}", "-czf"]
        for form in ("gnu", "oldgnu", "pax", "posix", "ustar", "v7")
    },
    **{f"bsdtar, {form}": ["bsdtar", f"--format={form}", "-czf"] for form in ("ustar", "pax", "paxr", "gnutar", "v7")},
    "busybox tar": ["busybox", "tar", "-czf"],
}


def read_whole(path: Path) -> list[tuple[Entry, bytes]]:
    with open_archive(path) as archive:
        assert archive.foreign
        assert archive.metadata() == FIELDS
        listed = list(archive.entries())
        found = [(entry, b"".join(blocks)) for entry, blocks in archive.walk()]
        chosen = {
            entry.path: b"".join(blocks) for entry, blocks in archive.contents(lambda entry: entry.path == DATABASE)
        }
    assert listed == [entry for entry, _ in found]
    assert chosen == {DATABASE: DUMP}
    return found


@pytest.mark.parametrize("top", [NAME, f"./{NAME}", f"{NAME}/"])
@pytest.mark.parametrize("maker", MAKERS)
def test_the_manuals_layout_made_by_any_tar_is_read_whole(tmp_path: Path, maker: str, top: str) -> None:
    if shutil.which(MAKERS[maker][0]) is None:
        pytest.skip(f"{MAKERS[maker][0]} is not installed")
    files = lay_out(tmp_path)
    os.utime(tmp_path / NAME / "files/none", ns=(0, 1_500_000_000))
    path = tmp_path / f"{NAME}.tar.gz"
    subprocess.run([*MAKERS[maker], path, top], cwd=tmp_path, check=True)
    found = read_whole(path)
    entries = {entry.path: entry for entry, _ in found}
    linked = {path for path, entry in entries.items() if entry.kind is Kind.HARDLINK}
    assert {entry.path: content for entry, content in found if entry.kind is Kind.FILE} == {
        **{path: content for path, content in files.items() if path not in linked},
        **(
            {b"files/uploads/same": files[b"files/templates/chest.html"]} if b"files/uploads/same" not in linked else {}
        ),
    }
    assert len(linked) == 1
    assert entries[b"files/uploads/latest"].target == b"empty"
    assert entries[b"files/none"].kind is Kind.FOLDER
    assert entries[b"files/none"].mtime_ns // 1_000_000_000 == 1
    assert entries[DATABASE].mode == (tmp_path / NAME / DATABASE.decode()).stat().st_mode & 0o7777


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_pythons_tarfile_as_the_first_implementation_used_it(tmp_path: Path, form: int) -> None:
    files = lay_out(tmp_path)
    path = tmp_path / f"{NAME}.tar.gz"
    with tarfile.open(path, "w:gz", format=form) as archive:
        archive.add(tmp_path / NAME, arcname=NAME)
    assert {entry.path for entry, _ in read_whole(path) if entry.kind is Kind.FILE} <= set(files) | {
        b"files/uploads/same"
    }


LONG = ["/".join(["folder" * 8] * 4) + "/" + "n" * 120, "ä" * 100, "x" * 255]


@pytest.mark.parametrize("maker", [maker for maker in MAKERS if not maker.endswith(("ustar", "v7"))])
def test_long_names_in_every_form(tmp_path: Path, maker: str) -> None:
    if shutil.which(MAKERS[maker][0]) is None:
        pytest.skip(f"{MAKERS[maker][0]} is not installed")
    lay_out(tmp_path)
    names = [name.encode() for name in LONG] + [b"\xff\xfe" + b"b" * 120]
    for name in names:
        place = Path(os.fsdecode(os.fsencode(tmp_path / NAME / "files") + b"/" + name))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(name)
    (tmp_path / NAME / "long link").symlink_to("t" * 300)
    path = tmp_path / f"{NAME}.tar.gz"
    run = subprocess.run(
        [*MAKERS[maker], path, NAME], cwd=tmp_path, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    found = read_whole(path)
    contents = {entry.path: content for entry, content in found}
    assert all(contents[b"files/" + name] == name for name in names[: len(names) - (run.returncode != 0)])
    assert [entry.target for entry, _ in found if entry.path == b"long link"] == [b"t" * 300]


@pytest.mark.parametrize("order", ["sorted", "depth first", "folders left out"])
def test_folders_may_come_late_or_not_at_all(tmp_path: Path, order: str) -> None:
    """cpio's order names a folder after what it holds; tarfile users often leave folders out."""
    inner = [member(f"{NAME}/a/b/f", content=b"1"), member(f"{NAME}/{DATABASE.decode()}", content=DUMP)]
    folders = [member(f"{NAME}/a/b", tarfile.DIRTYPE), member(f"{NAME}/a", tarfile.DIRTYPE)]
    members = {"sorted": [*folders[::-1], *inner], "depth first": [*inner, *folders], "folders left out": inner}[order]
    assert len(read_whole(packed(tmp_path, tar(members)))) == len(members) + 1


@pytest.fixture
def stream(tmp_path: Path) -> bytes:
    dump = member(f"{NAME}/{DATABASE.decode()}", content=DUMP)
    return tar([dump, member(f"{NAME}/files/a", content=b"abc" * 500)]).rstrip(b"\0").ljust(60_000, b"\0")


def walk(path: Path) -> int:
    with open_archive(path) as archive:
        archive.metadata()
        return sum(len(block) for _, blocks in archive.walk() for block in blocks)


def ends(stream: bytes) -> list[int]:
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        return [info.offset for info in archive.getmembers()] + [len(stream.rstrip(b"\0")) // 512 * 512 + 512]


def test_cut_at_an_entrys_end_it_is_damaged(tmp_path: Path, stream: bytes) -> None:
    """tar, gzip and tarfile find nothing wrong with such a file."""
    places = ends(stream)
    for place in places:
        for blocks in (0, 1):
            with pytest.raises(DamagedError):
                walk(packed(tmp_path, stream[:place] + bytes(512 * blocks)))
    assert walk(packed(tmp_path, stream[: places[-1]] + bytes(1024))) > 0


def test_cut_anywhere_it_is_damaged(tmp_path: Path, stream: bytes) -> None:
    data, path = gzip.compress(stream), tmp_path / f"{NAME}.tar.gz"
    for length in sample(range(len(data)), 60, "foreign cuts"):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedError):
            walk(path)


def test_bytes_changed_give_an_error_or_the_same(tmp_path: Path, stream: bytes) -> None:
    """Gzip's checksum covers the content; its header's time and system say nothing of it."""
    data, path, random = gzip.compress(stream, mtime=0), tmp_path / f"{NAME}.tar.gz", randomness("foreign")
    whole = walk(packed(tmp_path, stream))
    for position in sample(range(len(data)), 80, "foreign bytes"):
        changed = bytearray(data)
        changed[position] ^= random.randrange(1, 256)
        path.write_bytes(changed)
        try:
            assert walk(path) == whole
        except ArchiveError:
            continue


@pytest.mark.parametrize(
    "more", [b"x", b"garbage after the end", b"\x1f\x8b\x08\0", gzip.compress(b"x" * 600, mtime=0)]
)
def test_garbage_after_the_stream_is_refused(tmp_path: Path, stream: bytes, more: bytes) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    path.write_bytes(gzip.compress(stream) + more)
    with pytest.raises(DamagedError):
        walk(path)


def test_several_gzip_members_that_hold_one_stream_are_read(tmp_path: Path, stream: bytes) -> None:
    """As bgzip and split compressors write them, and with the zeros that tapes add."""
    path, whole = tmp_path / f"{NAME}.tar.gz", walk(packed(tmp_path, stream))
    for size in (700, 5_000, 59_000):
        pieces = [gzip.compress(stream[i : i + size]) for i in range(0, len(stream), size)]
        path.write_bytes(b"".join(pieces) + bytes(1_000))
        assert walk(path) == whole


def test_two_archives_one_after_the_other_are_refused(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / f"{NAME}.tar.gz"
    path.write_bytes(gzip.compress(stream) * 2)
    with pytest.raises(DamagedError, match="after the tar stream's end"):
        walk(path)


def test_it_must_hold_the_layout(tmp_path: Path, stream: bytes) -> None:
    for data, what in (
        (tar([], metadata=False), "no backup_metadata"),
        (stream.replace(b'"backup_name"', b'"backup-name"'), "renamed"),
    ):
        with pytest.raises(DamagedError, match=what):
            walk(packed(tmp_path, data))
    with pytest.raises(HostileError, match="outside the folder"):
        walk(packed(tmp_path, stream, "another_name"))


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 200_000, b"null"])
def test_metadata_that_are_no_object_are_refused(tmp_path: Path, content: bytes) -> None:
    path = packed(tmp_path, tar([member(f"{NAME}/backup_metadata.json", content=content)], metadata=False))
    with pytest.raises(DamagedError):
        walk(path)

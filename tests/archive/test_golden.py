"""A frozen archive of format 1 that every later version must read, and what other programs make of ours.

`golden/NAME.tar.gz` and `golden/expected.json` are never written again. A writer may change its bytes (another
level, other cuts); a reader that refuses this file loses someone's backups.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from resurgam.archive.entry import Entry, Kind, printable
from resurgam.archive.footer import METADATA_NAME
from resurgam.archive.opening import open_archive
from resurgam.archive.reader import NativeArchive
from tests.archive.trees import NAME, Planned, manual_plan, metadata_bytes, plain_plan, write_archive

GOLDEN = Path(__file__).parent / "golden"
EXTRACTORS = {
    "GNU tar": ["tar", "-xzpf"],
    "bsdtar": ["bsdtar", "-xzpf"],
    "busybox tar": ["busybox", "tar", "-xzpf"],
}


def described(entry: Entry, content: bytes) -> dict[str, object]:
    """An entry as the expectation holds it."""
    return {
        "path": printable(entry.path),
        "kind": entry.kind.name,
        "mode": f"{entry.mode:04o}",
        "owner": [entry.uid, entry.gid, entry.uname, entry.gname],
        "mtime_ns": entry.mtime_ns,
        "size": entry.size,
        "target": printable(entry.target),
        "sparse": entry.sparse,
        "sha256": hashlib.sha256(content).hexdigest() if entry.kind is Kind.FILE else "",
    }


def test_the_golden_archive_is_read_as_ever() -> None:
    path = GOLDEN / f"{NAME}.tar.gz"
    expected = json.loads((GOLDEN / "expected.json").read_text())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected["sha256"]
    assert path.stat().st_size < 20_000
    with open_archive(path) as archive:
        assert isinstance(archive, NativeArchive)
        assert archive.metadata() == expected["metadata"]
        assert [described(entry, b"".join(blocks)) for entry, blocks in archive.walk()] == expected["entries"]
        assert len(list(archive.entries())) == len(expected["entries"])
        wanted = {b"files/uploads/scan.dcm", b"database_20250104_143022.sql"}
        chosen = [described(e, b"".join(blocks)) for e, blocks in archive.contents(lambda entry: entry.path in wanted)]
    assert chosen == [entry for entry in expected["entries"] if os.fsencode(entry["path"]) in wanted]


def extracted(root: Path, plan: list[Planned]) -> None:
    """Everything planned is there, and nothing else."""
    top = os.fsencode(root / NAME)
    found = {os.path.join(place, name) for place, folders, files in os.walk(top) for name in (*folders, *files)}
    implied = {
        b"/".join(p.entry.path.split(b"/")[:depth]) for p in plan for depth in range(1, p.entry.path.count(b"/") + 1)
    }
    assert found == {top + b"/" + path for path in {p.entry.path for p in plan} | implied | {METADATA_NAME}}
    for planned in plan:
        entry, path = planned.entry, top + b"/" + planned.entry.path
        status = os.lstat(path)
        if entry.kind is Kind.FILE:
            assert Path(os.fsdecode(path)).read_bytes() == planned.content
        elif entry.kind is Kind.SYMLINK:
            assert os.readlink(path) == entry.target
        elif entry.kind is Kind.HARDLINK:
            assert os.path.samefile(path, top + b"/" + entry.target)
        else:
            assert stat.S_ISDIR(status.st_mode)
        if entry.kind in (Kind.FILE, Kind.FOLDER):
            assert stat.S_IMODE(status.st_mode) == entry.mode
        if entry.kind is Kind.FILE:
            assert status.st_mtime_ns // 1_000_000_000 == entry.mtime_ns // 1_000_000_000
    assert (root / NAME / METADATA_NAME.decode()).read_bytes() == metadata_bytes()


@pytest.mark.parametrize("tool", EXTRACTORS)
def test_other_tars_extract_the_same_tree(tmp_path: Path, tool: str) -> None:
    """The index and the footer mean nothing to them, and they do not complain. Busybox knows no pax headers."""
    if shutil.which(EXTRACTORS[tool][0]) is None:
        pytest.skip(f"{EXTRACTORS[tool][0]} is not installed")
    plans = [plain_plan()] if tool == "busybox tar" else [plain_plan(), manual_plan()]
    for plan in plans:
        run = subprocess.run(
            [*EXTRACTORS[tool], write_archive(tmp_path, plan)], cwd=tmp_path, check=False, capture_output=True
        )
        assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
        extracted(tmp_path, plan)
        shutil.rmtree(tmp_path / NAME)


def test_pythons_tarfile_extracts_the_same_tree(tmp_path: Path) -> None:
    for plan in (plain_plan(), manual_plan()):
        with tarfile.open(write_archive(tmp_path, plan), "r:gz") as archive:
            archive.extractall(tmp_path, filter="fully_trusted")
        extracted(tmp_path, plan)
        shutil.rmtree(tmp_path / NAME)


def test_gzip_finds_it_whole_and_gives_the_tar_stream(tmp_path: Path) -> None:
    path = write_archive(tmp_path, plain_plan())
    subprocess.run(["gzip", "-t", path], check=True)
    with open_archive(path) as archive:
        assert isinstance(archive, NativeArchive)
        stream = b"".join(archive.read(0, sum(archive.index.chunk_lengths)))
    assert len(stream) % 10_240 == 0  # sentence 8
    assert gzip.decompress(path.read_bytes()).startswith(stream)

"""Verify believes nothing (docs/archive-format.md, sentence 20)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from resurgam.archive.entry import Entry, Kind
from resurgam.archive.opening import open_archive
from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.errors import ArchiveError, ResurgamError, VerifyFailed
from resurgam.jobs.runner import Runner
from resurgam.operations.progress import Silent
from resurgam.operations.verify import verify
from resurgam.postgres.embedded import EmbeddedServer
from tests import clusters
from tests.operations.scene import Scene, scene_for
from tests.sampling import sample


@pytest.fixture(scope="module")
def taken(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Path]]:
    made = clusters.create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("verify")).make(reports=10)
    with scene.service() as service:
        archive = Path(service.backup().archive_path)
    yield scene, archive
    clusters.drop_database(pg16, made.name)


def test_the_answer_has_the_manuals_keys(taken: tuple[Scene, Path]) -> None:
    scene, archive = taken
    with scene.service() as service:
        answer = service.verify(archive.name.removesuffix(".tar.gz")).to_json()
        run = service.state.jobs.latest(1)[0]
    with open_archive(archive) as opened:
        files = sum(1 for entry in opened.entries() if entry.kind is Kind.FILE)
        metadata = opened.metadata()
    assert list(answer)[:6] == ["success", "backup_name", "backup_date", "total_files", "database_backup", "size_mb"]
    assert answer["success"] is True and answer["database_backup"] is True
    assert answer["backup_date"] == metadata["datetime"][:19]
    assert answer["total_files"] == files == metadata["total_files"]
    assert answer["size_mb"] == round(archive.stat().st_size / 1048576, 3)
    assert (run.kind, run.outcome) == ("verify", "ok")
    json.dumps(answer)


def test_no_flipped_byte_goes_unnoticed(taken: tuple[Scene, Path], tmp_path: Path) -> None:
    _, archive = taken
    data = archive.read_bytes()
    path = tmp_path / archive.name
    for place in sample(range(len(data)), 60, "verify flips"):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises((ArchiveError, VerifyFailed)), open_archive(path) as opened:
            verify(opened, Silent())


def test_no_cut_goes_unnoticed(taken: tuple[Scene, Path], tmp_path: Path) -> None:
    _, archive = taken
    data = archive.read_bytes()
    path = tmp_path / archive.name
    for length in sample(range(len(data)), 40, "verify cuts"):
        path.write_bytes(data[:length])
        with pytest.raises(ArchiveError), open_archive(path) as opened:
            verify(opened, Silent())


_END = b"--\n-- PostgreSQL database dump complete\n--\n"
_DUMP = b"--\n-- PostgreSQL database dump\n--\n\nCOPY public.t (id) FROM stdin;\n1\n2\n\\.\n\n" + _END
_NAME = "radiology_backup_20250104_143022"


def _made(folder: Path, change: Callable[[dict[str, Any]], None], dump: bytes | None = _DUMP) -> Path:
    """A sound archive whose metadata lie."""
    path = folder / f"{_NAME}.tar.gz"
    with path.open("w+b") as file, ArchiveWriter(PlainSink(file.fileno()), _NAME, mtime_ns=0) as writer:
        writer.add(Entry(b"config", Kind.FOLDER, 0o755))
        writer.add(Entry(b"config/requirements.txt", Kind.FILE, 0o644, size=2), [b"x\n"])
        if dump is not None:
            writer.add_late(Entry(b"database_20250104_143022.sql", Kind.FILE, 0o600), [dump])
        writer.add(Entry(b"files", Kind.FOLDER, 0o755))
        writer.add(Entry(b"files/uploads", Kind.FOLDER, 0o755))
        fields: dict[str, Any] = {
            "backup_name": _NAME,
            "timestamp": "20250104_143022",
            "datetime": "2025-01-04T14:30:22.123456",
            "database": {
                "success": True,
                "file": "database_20250104_143022.sql",
                "size_bytes": len(dump or b""),
                "tables": [["public", "t", 2]],
            },
            "configuration": {"success": True, "files_count": 1, "files": ["requirements.txt"]},
            "files": {"success": True, "directories_count": 1, "directories": ["uploads"]},
            "total_files": writer.total_files + 1,
            "backup_size_bytes": 0,
        }
        before = writer.content_bytes
        for _ in range(4):  # its own length counts
            fields["backup_size_bytes"] = before + len(json.dumps(fields))
        change(fields)
        writer.finish(json.dumps(fields).encode(), 0)
    return path


def test_what_is_sound_passes(tmp_path: Path) -> None:
    with open_archive(_made(tmp_path, lambda fields: None)) as opened:
        assert verify(opened, Silent()).rows == 2


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f["database"].update(success=False), "holds no database"),
        (lambda f: f["database"].update(size_bytes=1), "bytes, the metadata says 1"),
        (lambda f: f["database"].update(tables=[["public", "t", 3]]), "tables and rows"),
        (lambda f: f["database"].update(tables=[]), "tables and rows"),
        (lambda f: f["database"].update(tables="x"), "tables and rows"),
        (lambda f: f["database"].update(file="database_1.sql"), "holds no database_1.sql"),
        (lambda f: f["database"].update(file="../etc/passwd"), "holds no"),
        (lambda f: f["configuration"].update(files_count=2), "config/"),
        (lambda f: f["configuration"].update(files=["other"]), "config/"),
        (lambda f: f["files"].update(directories=["uploads", "templates"]), "files/ lacks"),
        (lambda f: f.update(timestamp="20250104_143023"), "timestamp"),
        (lambda f: f.update(total_files=9), "the metadata says 9"),
        (lambda f: f.update(backup_size_bytes=9), "the metadata says 9"),
        (lambda f: f.update(database=[]), "holds no database"),
        (lambda f: f.update(database=None), "holds no database"),
        (lambda f: f.pop("timestamp"), "timestamp"),
        (lambda f: f.pop("total_files"), "the metadata says None"),
    ],
)
def test_metadata_that_lie(tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str) -> None:
    with open_archive(_made(tmp_path, change)) as opened, pytest.raises(VerifyFailed, match=match):
        verify(opened, Silent())


@pytest.mark.parametrize(
    "dump",
    [b"", _DUMP.removesuffix(_END), _DUMP[:70], _DUMP.replace(b"\\.\n", b""), _DUMP.replace(b"complete", b"completx")],
)
def test_dumps_that_are_not_whole(tmp_path: Path, dump: bytes) -> None:
    with open_archive(_made(tmp_path, lambda fields: None, dump)) as opened, pytest.raises(ResurgamError):
        verify(opened, Silent())


def test_no_dump_at_all(tmp_path: Path) -> None:
    with open_archive(_made(tmp_path, lambda f: None, None)) as opened, pytest.raises(VerifyFailed, match="holds no"):
        verify(opened, Silent())


def test_a_folder_on_a_read_only_disk_is_verified_too(taken: tuple[Scene, Path]) -> None:
    """It can be neither locked nor written; what is asked is whether its bytes are sound."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    scene, archive = taken
    subprocess.run(["mount", "--bind", scene.backups, scene.backups], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", scene.backups], check=True)
        with scene.service() as service:
            name = archive.name.removesuffix(".tar.gz")
            assert service.verify(name).total_files > 0
            assert name in [backup["backup_name"] for backup in service.list_backups()]
        state = scene.root / "elsewhere.sqlite"
        with scene.service(BACKUP_STATE_FILE=str(state)) as service:
            runner = Runner(service.state, service.log, service.environment)
            job = runner.submit("verify", name, {"name": name}, origin="api", actor="")
            runner.ended(job).result(30)
            verified = service.state.jobs.get(job)
            assert verified.state == "ok", verified.reason
    finally:
        subprocess.run(["umount", scene.backups], check=True)

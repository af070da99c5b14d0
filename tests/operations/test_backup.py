"""A backup is whole or it is not there; runs exclude each other; the first implementation's failings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg
import pytest

from resurgam.errors import (
    BusyError,
    ClientToolError,
    DatabaseError,
    ResurgamError,
)
from resurgam.operations.restore import Parts
from tests.clusters import Database
from tests.operations.backups import fails, small_scene
from tests.operations.scene import Scene, lost, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


# The manual's answer


def test_the_answer_and_the_metadata_have_the_manuals_keys(scene: Scene) -> None:
    with scene.service() as service:
        answer = service.backup().to_json()
    json.dumps(answer)
    name = answer["backup_name"]
    stamp = name.removeprefix("radiology_backup_")
    archive = scene.backups / f"{name}.tar.gz"
    assert answer["success"] is True
    assert answer["archive_path"] == str(archive)
    assert answer["size_mb"] == round(archive.stat().st_size / 1048576, 3)
    metadata = answer["metadata"]
    assert metadata["backup_name"] == name and metadata["timestamp"] == stamp
    assert metadata["datetime"].replace("-", "").replace(":", "").replace("T", "_").startswith(stamp)
    assert len(metadata["datetime"]) == len("2025-01-04T14:30:22.123456")
    assert metadata["database"]["success"] is True
    assert metadata["database"]["file"] == f"database_{stamp}.sql"
    assert metadata["configuration"] == {
        "success": True,
        "files_count": 4,
        "files": [".env.example", "backend/config.py", "docker-compose.yml", "requirements.txt"],
        "size_bytes": 24,
    }
    assert metadata["files"]["success"] is True
    assert metadata["files"]["directories_count"] == 2
    assert metadata["files"]["directories"] == ["templates", "uploads"]
    listed = subprocess.run(["tar", "tzf", archive], check=True, capture_output=True, text=True).stdout.splitlines()
    for path in (
        "backup_metadata.json",
        f"database_{stamp}.sql",
        f"globals_{stamp}.sql",
        "config/.env.example",
        "config/backend/config.py",
        "files/templates/chest.html",
        "files/uploads/2025/a.txt",
    ):
        assert f"{name}/{path}" in listed
    unpacked = subprocess.run(["tar", "xzOf", archive], check=True, capture_output=True).stdout
    assert b"never-in-an-archive" not in unpacked and scene.password.encode() not in unpacked
    size = sum(
        int(line.split()[2])
        for line in subprocess.run(
            ["tar", "tzvf", archive], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        if line.startswith("-")
    )
    assert metadata["backup_size_bytes"] == size
    assert metadata["backup_size_mb"] == round(size / 1048576, 3)
    assert archive.stat().st_mode & 0o777 == 0o600


# The first implementation's failings (design.md §4), each by its name


def test_regression_success_is_not_reported_when_pg_dumpfails(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, 'echo "pg_dump: error: broken" >&2; exit 1')
    error = fails(scene, ClientToolError, "exit status 1: pg_dump: error: broken", BACKUP_PG_BIN=str(folder))
    assert "Nothing was published" in error.hint


def test_regression_good_backups_are_not_pruned_after_a_bad_run(scene: Scene) -> None:
    with scene.service(MAX_BACKUPS="5") as service:
        for _ in range(3):
            service.backup()
    assert len(scene.archives()) == 3
    scene.clock.ahead += 90 * 86400
    folder = tools(scene.root / "bin", scene.server.bin, "exit 1")
    fails(scene, ClientToolError, "exit status", BACKUP_PG_BIN=str(folder), MAX_BACKUPS="1", BACKUP_RETENTION_DAYS="1")
    assert len(scene.archives()) == 3


def test_regression_uploads_are_restored_to_their_own_folder(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        before = scene.seen()
        (scene.app / "uploads/2025/a.txt").unlink()
        service.restore(name, Parts(False, False, True))
    assert lost(before, scene.seen()) == []
    assert (scene.app / "uploads/2025/a.txt").read_text() == "a"
    assert not (scene.app / "files").exists() and not (scene.app / "backend/uploads").exists()


def test_regression_a_restore_needs_no_registry(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
    for path in scene.backups.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    scene.execute("DROP TABLE reports")
    with scene.service() as service:
        service.restore(name, Parts())
    assert scene.execute("SELECT count(*) FROM reports") == [(2000,)]


def test_regression_nothing_is_dropped_before_it_is_known_that_restore_is_possible(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        path = scene.backups / f"{name}.tar.gz"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(ResurgamError):
            service.restore(name, Parts())
    assert scene.execute("SELECT count(*) FROM reports") == [(2000,)]


# Exclusion


def test_a_second_backup_is_refused_and_the_first_one_is_not_disturbed(scene: Scene) -> None:
    go, started = scene.root / "go", scene.root / "started"
    folder = tools(scene.root / "bin", scene.server.bin, f"touch {started}; while [ ! -e {go} ]; do sleep 0.02; done")
    taken: list[str] = []

    def run() -> None:
        with scene.service(BACKUP_PG_BIN=str(folder)) as service:
            taken.append(service.backup().name)

    thread = threading.Thread(target=run)
    thread.start()
    while not started.exists():
        time.sleep(0.01)
    # The same folder, and another one for the same database.
    for more in ({}, {"BACKUP_DIR": str(scene.root / "elsewhere")}):
        with scene.service(**more) as service:
            with pytest.raises(BusyError):
                service.backup()
            assert service.state.jobs.latest(1)[0].outcome == "refused"
    go.touch()
    thread.join()
    assert scene.archives() == [f"{taken[0]}.tar.gz"]
    with scene.service() as service:
        service.backup()


def test_a_crashed_backup_never_blocks_the_next_and_its_pg_dump_ends(scene: Scene) -> None:
    pid_file = scene.root / "pid"
    folder = tools(
        scene.root / "bin",
        scene.server.bin,
        f"echo $$ > {pid_file}.new; mv {pid_file}.new {pid_file}; exec sleep 60",
    )
    child = os.fork()
    if child == 0:
        with scene.service(BACKUP_PG_BIN=str(folder)) as service:
            service.backup()
        os._exit(1)
    while not pid_file.exists():
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    orphan = int(pid_file.read_text())
    deadline = time.monotonic() + 5
    while _runs(orphan):
        assert time.monotonic() < deadline, "pg_dump outlives us"
        time.sleep(0.02)
    assert [path.name for path in scene.backups.iterdir() if path.name.endswith(".partial")]
    with scene.service() as service:
        deadline = time.monotonic() + 5
        while True:
            try:
                service.backup()
                break
            except BusyError:  # the server notices within moments that its client has gone
                assert time.monotonic() < deadline
        assert any("the process that ran it died" in line for line in scene.log_lines())
        died = [run for run in service.state.jobs.latest() if run.outcome == "failed"]
        assert len(died) == 1
    assert len(scene.archives()) == 1 and scene.leftovers() == []


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Consistency


def test_rows_and_files_that_come_during_the_backup(scene: Scene) -> None:
    """A row that the dump holds points to a file that the backup holds too."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(scene.dsn, autocommit=True) as session:
            number = 10_000
            while not stop.is_set():
                number += 1
                (scene.app / f"uploads/{number}.txt").write_text("scan")
                session.execute("INSERT INTO reports VALUES (%s, 'new')", (number,))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.1)
        with scene.service() as service:
            archive = Path(service.backup().archive_path)
    finally:
        stop.set()
        writer.join()
    listed = set(subprocess.run(["tar", "tzf", archive], check=True, capture_output=True, text=True).stdout.split())
    dump = subprocess.run(
        ["tar", "xzOf", archive, "--wildcards", "*/database_*.sql"], check=True, capture_output=True, text=True
    ).stdout
    named = [line.split("\t")[0] for line in dump.splitlines() if line.endswith("\tnew")]
    assert named
    top = archive.name.removesuffix(".tar.gz")
    assert [number for number in named if f"{top}/files/uploads/{number}.txt" not in listed] == []


def test_a_database_that_is_not_there(scene: Scene) -> None:
    fails(scene, DatabaseError, "nothing_here", DB_NAME="nothing_here")

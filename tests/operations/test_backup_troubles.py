"""What fails is told, publishes nothing, and costs no earlier backup: pg_dump, sources, the folder."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from resurgam.errors import (
    ClientToolError,
    FeatureMissing,
    ResurgamError,
    SourceError,
)
from resurgam.operations.restore import Parts
from tests.clusters import Database
from tests.operations.backups import fails, small_scene
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.operations.scene import Scene, lost, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return small_scene(database, tmp_path)


# pg_dump


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ('"$REAL" "$@" | head -c 3000; exit 1', "exit status 1"),
        ('"$REAL" "$@" | head -c 3000; exit 0', "not whole"),
        ('"$REAL" "$@" | grep -v "dump complete"; exit 0', "not whole"),
        (
            '"$REAL" "$@" | sed "/^COPY public.users/,/^.\\\\./d"; exit 0',
            "lacks the data of 1 table that.*public.users",
        ),
        ("exit 0", "not whole"),
        ("kill -KILL $$", "SIGKILL"),
        ('"$REAL" "$@" | head -c 20000; kill -SEGV $$', "SIGSEGV"),
    ],
)
def test_a_pg_dump_that_does_not_end_well(scene: Scene, script: str, match: str) -> None:
    fails(scene, ClientToolError, match, BACKUP_PG_BIN=str(tools(scene.root / "bin", scene.server.bin, script)))


def test_a_pg_dumpall_thatfails(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, "", 'echo "no roles today" >&2; exit 1')
    fails(scene, ClientToolError, "pg_dumpall .* no roles today", BACKUP_PG_BIN=str(folder))


def test_a_table_that_pg_dump_can_not_read_is_named(scene: Scene) -> None:
    """A page of the table is damaged on disk: SELECT fails, and so does the run."""
    (path,) = scene.execute("CHECKPOINT", "SELECT pg_relation_filepath('reports')")
    file = scene.server.data_dir / path[0]
    scene.execute("CHECKPOINT")
    with file.open("r+b") as table:
        table.seek(8192)
        table.write(b"\xff" * 8192)
    # Whoever has the page in memory does not notice.
    scene.execute("CREATE EXTENSION IF NOT EXISTS plpgsql")
    scene.administer(f"ALTER DATABASE {scene.database} RENAME TO {scene.database}_x")
    scene.administer(f"CREATE DATABASE {scene.database}_y TEMPLATE {scene.database}_x STRATEGY file_copy")
    scene.administer(f"DROP DATABASE {scene.database}_x")
    scene.administer(f"ALTER DATABASE {scene.database}_y RENAME TO {scene.database}")
    fails(scene, ClientToolError, "invalid page.*reports")


def test_a_missing_pg_dump(scene: Scene) -> None:
    (scene.root / "nothing").mkdir()
    error = fails(scene, ClientToolError, "pg_dump not found", BACKUP_PG_BIN=str(scene.root / "nothing"))
    assert "postgresql-client" in error.hint


def test_a_pg_dump_that_is_too_old(scene: Scene, postgres_bins: dict[int, Path]) -> None:
    error = fails(scene, ClientToolError, "too old", BACKUP_PG_BIN=str(postgres_bins[15]))
    assert "postgresql-client-16" in error.hint


def test_a_newer_pg_dump_will_do(scene: Scene, postgres_bins: dict[int, Path]) -> None:
    before = scene.seen()
    with scene.service(BACKUP_PG_BIN=str(postgres_bins[18])) as service:
        name = service.backup().name
        scene.execute("DROP TABLE reports")
        service.restore(name, Parts())
    assert lost(before, scene.seen()) == []


def test_a_dump_that_takes_too_long_is_ended(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, "exec sleep 30")
    started = time.monotonic()
    fails(scene, ClientToolError, "BACKUP_DUMP_TIMEOUT", BACKUP_PG_BIN=str(folder), BACKUP_DUMP_TIMEOUT="1s")
    assert time.monotonic() - started < 10


def test_a_session_that_is_ended_under_the_dump(scene: Scene) -> None:
    """The holder of the snapshot goes: whatever pg_dump says then, there is no backup."""
    script = f"""
      psql_pid=$({scene.server.bin}/psql -XAtq '{scene.admin}' -c "SELECT pg_terminate_backend(pid)
        FROM pg_stat_activity WHERE datname = '{scene.database}' AND application_name = 'resurgam'")
    """
    fails(
        scene,
        SourceError,
        "terminat|closed|snapshot|ended|connection",
        BACKUP_PG_BIN=str(tools(scene.root / "bin", scene.server.bin, script)),
    )


# Sources


def test_an_unreadable_file_fails_the_run(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    (scene.app / "uploads/locked.txt").write_text("secret")
    real = os.open

    def refusing(path: Any, *arguments: Any, **named: Any) -> int:
        if path == b"locked.txt":  # modes do not stop root, as whom the tests may run
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refusing)
    fails(scene, SourceError, "locked.txt")


def test_an_absent_configured_tree_fails_and_an_absent_default_warns(scene: Scene) -> None:
    fails(scene, SourceError, "nowhere", BACKUP_FILE_TREES="uploads, nowhere")
    (scene.app / "docker-compose.yml").unlink()
    with scene.service() as service:
        result = service.backup()
    assert any("docker-compose.yml" in warning for warning in result.warnings)
    assert result.metadata["configuration"]["files_count"] == 3


def test_sockets_and_pipes_are_listed_as_skipped(scene: Scene) -> None:
    os.mkfifo(scene.app / "uploads/pipe")
    here = os.getcwd()
    os.chdir(scene.app / "uploads")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
    finally:
        os.chdir(here)
    with scene.service() as service:
        metadata = service.backup().metadata
    uploads = next(tree for tree in metadata["files"]["trees"] if tree["name"] == "uploads")
    assert uploads["skipped"]["count"] == 2


def test_a_file_that_vanishes_meanwhile_is_recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (scene.app / f"uploads/{number:02}.txt").write_text("x")
    real = os.open

    def vanishing(path: Any, *arguments: Any, **named: Any) -> int:
        if path == b"07.txt":
            (scene.app / "uploads/07.txt").unlink(missing_ok=True)
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", vanishing)
    with scene.service() as service:
        metadata = service.backup().metadata
    uploads = next(tree for tree in metadata["files"]["trees"] if tree["name"] == "uploads")
    assert uploads["vanished"] == {"count": 1, "names": ["files/uploads/07.txt"]}


@pytest.mark.parametrize("name", ["S3_BACKUP_BUCKET"])
def test_a_wish_that_can_not_be_fulfilled_fails_the_backup(scene: Scene, name: str) -> None:
    fails(scene, FeatureMissing, name, **{name: "something"})


# The folder


@needs_mounts
@pytest.mark.parametrize("size", [200, 400, 800, 1600])
def test_a_full_disk_leaves_earlier_backups_whole(scene: Scene, size: int) -> None:
    """BACKUP_DIR is a small disk: wherever it gets full, the run fails, and its partial file is gone."""
    (scene.app / "uploads/noise.bin").write_bytes(os.urandom(2 << 20))
    with scene.service() as service:
        good = Path(service.backup().archive_path)
    kept = scene.root / "kept.tar.gz"
    good.rename(kept)

    def mounts() -> None:
        mount("-t", "tmpfs", "-o", f"size={(kept.stat().st_size >> 10) + size}k", "none", scene.backups)

    def deed() -> tuple[str, list[str], bool]:
        target = scene.backups / good.name
        target.write_bytes(kept.read_bytes())
        with scene.service() as service:
            try:
                service.backup()
                answer = "taken"
            except ResurgamError as error:
                answer = error.message
        return answer, [*scene.archives(), *scene.leftovers()], target.read_bytes() == kept.read_bytes()

    answer, there, whole = in_child(deed, mounts=mounts)
    assert "space" in answer or "full" in answer, answer
    assert there == [good.name]
    assert whole


def test_a_folder_that_is_not_writable(scene: Scene) -> None:
    blocked = scene.root / "file"
    blocked.write_text("")
    with (
        scene.service(BACKUP_DIR=str(blocked / "backups")) as service,
        pytest.raises(ResurgamError, match="BACKUP_DIR"),
    ):
        service.backup()

"""A backup is whole or it is not there; what fails is told, and costs no earlier backup."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resurgam.demo.cluster import EmbeddedServer
from resurgam.errors import (
    BusyError,
    ClientToolError,
    DatabaseError,
    FeatureMissing,
    ResurgamError,
    SourceError,
    StorageError,
)
from resurgam.operations.restore import Parts
from tests.clusters import Database, create_database, drop_database
from tests.operations.namespaces import in_child, mount, needs_mounts, own_mounts
from tests.operations.scene import Scene, lost, scene_for, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = scene_for(database, tmp_path)
    made.execute(
        "CREATE TABLE reports (id int PRIMARY KEY, body text)",
        "INSERT INTO reports SELECT n, repeat('finding ', 20) FROM generate_series(1, 2000) n",
        "CREATE TABLE users (id int)",
    )
    for name in ("backend/templates", "uploads/2025"):
        (made.app / name).mkdir(parents=True)
    (made.app / "uploads/2025/a.txt").write_text("a")
    (made.app / "backend/templates/chest.html").write_text("<p>")
    for name in (".env.example", "docker-compose.yml", "requirements.txt", "backend/config.py"):
        (made.app / name).write_text("x = 1\n")
    (made.app / ".env").write_text("DB_PASSWORD=never-in-an-archive\n")
    return made


def _fails(scene: Scene, kind: type[ResurgamError], match: str, **more: str) -> ResurgamError:
    """The backup fails with that, and nothing else happens: no archive, no prune, no left-overs, an ERROR line."""
    before = scene.archives()
    with scene.service(**more) as service:
        with pytest.raises(kind, match=match) as caught:
            service.backup()
        run = service.state.runs(1)[0]
        assert (run.outcome, run.reason) == ("failed", caught.value.message)
    assert scene.archives() == before
    assert scene.leftovers() == []
    assert " ERROR " in scene.log_lines()[-1]
    return caught.value


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


# Databases that are not quite ordinary


def test_partitions_by_the_hash_of_an_enum_which_pg_dump_loads_through_their_root(scene: Scene) -> None:
    scene.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
        "CREATE TABLE moods (mood mood, day int) PARTITION BY HASH (mood)",
        *(f"CREATE TABLE moods_{n} PARTITION OF moods FOR VALUES WITH (MODULUS 3, REMAINDER {n})" for n in range(3)),
        "INSERT INTO moods SELECT m, n FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 5) n",
    )
    with scene.service() as service:
        taken = service.backup()
        assert ["public", "moods", 15] in taken.metadata["database"]["tables"]
        scene.execute("DELETE FROM moods")
        service.restore(taken.name, Parts(database=True, config=False, files=False))
    assert scene.execute("SELECT mood::text, sum(day)::int FROM moods GROUP BY moods.mood ORDER BY moods.mood") == [
        ("sad", 15),
        ("ok", 15),
        ("happy", 15),
    ]


def test_a_client_encoding_set_for_the_database_does_not_touch_the_dump(scene: Scene) -> None:
    scene.execute('CREATE TABLE "naïve" (said text)', "INSERT INTO \"naïve\" VALUES ('ünïcode 😀')")
    scene.administer(f"ALTER DATABASE \"{scene.database}\" SET client_encoding = 'LATIN1'")
    with scene.service() as service:
        taken = service.backup()
        scene.administer(f"ALTER DATABASE \"{scene.database}\" SET client_encoding = 'UTF8'")
        scene.execute('DROP TABLE "naïve"')
        service.restore(taken.name, Parts(database=True, config=False, files=False))
    scene.administer(f'ALTER DATABASE "{scene.database}" RESET client_encoding')
    assert scene.execute('SELECT said FROM "naïve"') == [("ünïcode 😀",)]


def test_a_login_trigger_of_the_backup_writes_nothing_while_it_is_restored(scene: Scene) -> None:
    if scene.server.version < 17:
        pytest.skip("event triggers on login came with 17")
    scene.execute(
        "CREATE TABLE logins (at timestamptz)",
        "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql"
        " AS 'BEGIN INSERT INTO logins VALUES (now()); END'",
        "CREATE EVENT TRIGGER seen ON login EXECUTE FUNCTION seen()",
        "ALTER EVENT TRIGGER seen ENABLE ALWAYS",
    )
    with scene.service() as service:
        service.restore(service.backup().name, Parts(database=True, config=False, files=False))


def test_the_comment_on_a_database_of_another_encoding(pg: EmbeddedServer, tmp_path: Path) -> None:
    database = create_database(pg)
    with psycopg.connect(pg.dsn(), autocommit=True) as session:
        session.execute(f'DROP DATABASE "{database.name}"'.encode())
        session.execute(f'CREATE DATABASE "{database.name}" TEMPLATE template0 ENCODING LATIN1 LOCALE "C"'.encode())
    made = scene_for(database, tmp_path)
    try:
        made.execute(f"COMMENT ON DATABASE \"{database.name}\" IS E'\\u00c4rzte'")
        with made.service(BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none") as service:
            service.restore(service.backup().name, Parts())
        comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        assert made.execute(comment) == [("Ärzte",)]
    finally:
        drop_database(pg, database.name)


@needs_mounts
def test_a_folder_mounted_read_only_is_called_that(scene: Scene) -> None:
    def refused() -> str:
        mount("--bind", scene.backups, scene.backups)
        mount("-o", "remount,ro,bind", scene.backups)
        with scene.service() as service, pytest.raises(StorageError) as caught:
            service.backup()
        return f"{caught.value.message} {caught.value.hint}"

    with scene.service() as service:
        service.backup()
    told = in_child(refused, mounts=own_mounts)
    assert "mounted read-only" in told and "chown" not in told


def test_a_database_whose_name_looks_like_a_connection_string(pg: EmbeddedServer, tmp_path: Path) -> None:
    database = create_database(pg, prefix="host=nowhere dbname")
    try:
        with scene_for(database, tmp_path).service(BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none") as service:
            service.restore(service.backup().name, Parts())
    finally:
        drop_database(pg, database.name)


def test_two_backups_within_a_second_have_two_names(scene: Scene) -> None:
    with scene.service() as service:
        taken = [service.backup() for _ in range(3)]
    assert len(scene.archives()) == 3
    assert [one.metadata["sequence"] for one in taken] == [1, 2, 3]


def test_a_clock_that_goes_back_keeps_the_order(scene: Scene) -> None:
    with scene.service() as service:
        first = service.backup().name
        scene.clock.ahead -= 1200
        second = service.backup().name
        assert [one["backup_name"] for one in service.list_backups()] == [second, first]


# The first implementation's failings (design.md §4), each by its name


def test_regression_success_is_not_reported_when_pg_dump_fails(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, 'echo "pg_dump: error: broken" >&2; exit 1')
    error = _fails(scene, ClientToolError, "exit status 1: pg_dump: error: broken", BACKUP_PG_BIN=str(folder))
    assert "Nothing was published" in error.hint


def test_regression_good_backups_are_not_pruned_after_a_bad_run(scene: Scene) -> None:
    with scene.service(MAX_BACKUPS="5") as service:
        for _ in range(3):
            service.backup()
    assert len(scene.archives()) == 3
    scene.clock.ahead += 90 * 86400
    folder = tools(scene.root / "bin", scene.server.bin, "exit 1")
    _fails(scene, ClientToolError, "exit status", BACKUP_PG_BIN=str(folder), MAX_BACKUPS="1", BACKUP_RETENTION_DAYS="1")
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


# pg_dump


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ('"$REAL" "$@" | head -c 3000; exit 1', "exit status 1"),
        ('"$REAL" "$@" | head -c 3000; exit 0', "not whole"),
        ('"$REAL" "$@" | grep -v "dump complete"; exit 0', "not whole"),
        ('"$REAL" "$@" | sed "/^COPY public.users/,/^.\\\\./d"; exit 0', "lacks the data of 1 tables.*public.users"),
        ("exit 0", "not whole"),
        ("kill -KILL $$", "SIGKILL"),
        ('"$REAL" "$@" | head -c 20000; kill -SEGV $$', "SIGSEGV"),
    ],
)
def test_a_pg_dump_that_does_not_end_well(scene: Scene, script: str, match: str) -> None:
    _fails(scene, ClientToolError, match, BACKUP_PG_BIN=str(tools(scene.root / "bin", scene.server.bin, script)))


def test_a_pg_dumpall_that_fails(scene: Scene) -> None:
    folder = tools(scene.root / "bin", scene.server.bin, "", 'echo "no roles today" >&2; exit 1')
    _fails(scene, ClientToolError, "pg_dumpall .* no roles today", BACKUP_PG_BIN=str(folder))


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
    _fails(scene, ClientToolError, "invalid page.*reports")


def test_a_missing_pg_dump(scene: Scene) -> None:
    (scene.root / "nothing").mkdir()
    error = _fails(scene, ClientToolError, "pg_dump not found", BACKUP_PG_BIN=str(scene.root / "nothing"))
    assert "postgresql-client" in error.hint


def test_a_pg_dump_that_is_too_old(scene: Scene, postgres_bins: dict[int, Path]) -> None:
    error = _fails(scene, ClientToolError, "too old", BACKUP_PG_BIN=str(postgres_bins[15]))
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
    _fails(scene, ClientToolError, "BACKUP_DUMP_TIMEOUT", BACKUP_PG_BIN=str(folder), BACKUP_DUMP_TIMEOUT="1s")
    assert time.monotonic() - started < 10


def test_a_session_that_is_ended_under_the_dump(scene: Scene) -> None:
    """The holder of the snapshot goes: whatever pg_dump says then, there is no backup."""
    script = f"""
      psql_pid=$({scene.server.bin}/psql -XAtq '{scene.admin}' -c "SELECT pg_terminate_backend(pid)
        FROM pg_stat_activity WHERE datname = '{scene.database}' AND application_name = 'resurgam'")
    """
    _fails(
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
    _fails(scene, SourceError, "locked.txt")


def test_an_absent_configured_tree_fails_and_an_absent_default_warns(scene: Scene) -> None:
    _fails(scene, SourceError, "nowhere", BACKUP_FILE_TREES="uploads, nowhere")
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


@pytest.mark.parametrize("name", ["BACKUP_ENCRYPTION_KEY", "S3_BACKUP_BUCKET", "BACKUP_REPOSITORY"])
def test_a_wish_that_can_not_be_fulfilled_fails_the_backup(scene: Scene, name: str) -> None:
    _fails(scene, FeatureMissing, name, **{name: "something"})


# The folder


@needs_mounts
@pytest.mark.parametrize("size", [200, 400, 800, 1600])
def test_a_full_disk_leaves_earlier_backups_whole(scene: Scene, size: int) -> None:
    """BACKUP_DIR is a small disk: wherever it gets full, the run fails, and its partial file is gone."""
    (scene.app / "uploads/noise.bin").write_bytes(os.urandom(2 << 20))
    with scene.service() as service:
        good = service.backup().archive_path
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
            assert service.state.runs(1)[0].outcome == "refused"
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
        died = [run for run in service.state.runs() if run.outcome == "failed"]
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
            archive = service.backup().archive_path
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
    _fails(scene, DatabaseError, "nothing_here", DB_NAME="nothing_here")

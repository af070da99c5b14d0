"""The snapshot and its locks: what others do to the tables meanwhile neither empties a dump nor hangs it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from resurgam.errors import BusyError, DatabaseError
from resurgam.operations.backup import BackupResult
from resurgam.postgres import dump
from resurgam.postgres.connection import Server
from resurgam.postgres.snapshot import application_lock, exported_snapshot
from tests.clusters import Database
from tests.operations.scene import Scene, scene_for, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none")
    made.app.mkdir()
    made.execute(
        "CREATE TABLE kept (id int)",
        "INSERT INTO kept SELECT generate_series(1, 1000)",
        "CREATE TABLE other (id int)",
        "INSERT INTO other SELECT generate_series(1, 10)",
    )
    return made


def _server(scene: Scene) -> Server:
    with scene.service() as service:
        return service.server


def _rows(result: BackupResult) -> dict[str, int]:
    return {name: rows for _, name, rows in result.metadata["database"]["tables"]}


@contextmanager
def _meanwhile(scene: Scene, statement: str) -> Iterator[Callable[[], None]]:
    """Run a statement in a session of its own when told to; at the end wait for it, at most ten seconds."""
    session = psycopg.connect(scene.dsn, autocommit=True)
    thread = threading.Thread(target=lambda: session.execute(statement.encode()), daemon=True)
    yield thread.start
    thread.join(10)
    assert not thread.is_alive(), f"{statement} still waits"
    session.close()


def _until_waiting(scene: Scene) -> None:
    deadline = time.monotonic() + 10
    while not scene.administer(
        f"SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = '{scene.database}'"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE kept",
        "ALTER TABLE kept ALTER id TYPE bigint",
        "DROP TABLE kept",
        "VACUUM FULL kept",
        "TRUNCATE kept, other",
    ],
)
def test_what_empties_or_rewrites_a_table_does_not_empty_the_dump(scene: Scene, statement: str) -> None:
    """It begins between the snapshot and pg_dump's own locks: pg_dump would wait behind it, and it for us."""
    go, started = scene.root / "go", scene.root / "started"
    waits = f"if [ ! -e {go} ]; then touch {started}; while [ ! -e {go} ]; do sleep 0.02; done; fi"
    bin_folder = tools(scene.root / "bin", scene.server.bin, waits)
    results: list[BackupResult] = []

    def run() -> None:
        with scene.service(BACKUP_PG_BIN=str(bin_folder)) as service:
            results.append(service.backup())

    with _meanwhile(scene, statement) as act:
        backup = threading.Thread(target=run, daemon=True)
        backup.start()
        deadline = time.monotonic() + 20
        while not started.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        act()
        _until_waiting(scene)
        go.touch()
        backup.join(60)
        assert not backup.is_alive(), "the backup hangs"
    (result,) = results
    rows = _rows(result)
    # Either before it or after it, never a table that is there and empty though it never was.
    if statement.startswith("TRUNCATE"):
        assert rows == {"kept": 1000, "other": 10} or (rows["kept"] == 0 and "TRUNCATE" in statement)
        assert rows != {"kept": 0, "other": 10} or statement == "TRUNCATE kept"
    elif statement.startswith("DROP"):
        assert rows in ({"kept": 1000, "other": 10}, {"other": 10})
    else:
        assert rows == {"kept": 1000, "other": 10}


def test_tables_that_come_and_go_all_the_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "_LOCK_WAIT_MS", 150)
    stop = threading.Event()

    def churn() -> None:
        with psycopg.connect(scene.dsn, autocommit=True) as session:
            number = 0
            while not stop.is_set():
                number += 1
                session.execute(f"CREATE TABLE churn_{number} AS SELECT generate_series(1, 5) AS id".encode())
                session.execute(f"DROP TABLE IF EXISTS churn_{max(0, number - 2)}".encode())
                time.sleep(0.02)

    thread = threading.Thread(target=churn, daemon=True)
    thread.start()
    try:
        with scene.service() as service:
            try:
                rows = _rows(service.backup())
            except DatabaseError as error:
                assert "faster than they could be locked" in error.message or "came between" in error.message
                assert scene.archives() == []
                return
    finally:
        stop.set()
        thread.join()
    assert rows.pop("kept") == 1000 and rows.pop("other") == 10
    assert set(rows.values()) <= {5}


def test_a_lock_that_lasts_ends_the_run_by_its_time_out(scene: Scene) -> None:
    with psycopg.connect(scene.dsn) as session:
        session.execute("LOCK TABLE kept IN ACCESS EXCLUSIVE MODE")
        with (
            scene.service(BACKUP_LOCK_TIMEOUT="1s") as service,
            pytest.raises(DatabaseError, match="BACKUP_LOCK_TIMEOUT"),
        ):
            service.backup()
    assert scene.archives() == []


def test_a_deadlock_with_a_migration_begins_anew(scene: Scene) -> None:
    """The migration holds the second table and wants the first, which we hold."""
    results: list[BackupResult] = []

    def run() -> None:
        with scene.service() as service:
            results.append(service.backup())

    with psycopg.connect(scene.dsn) as session:
        session.execute("SET deadlock_timeout = '30s'")  # so that it is us whom the server ends
        session.execute("LOCK TABLE other IN ACCESS EXCLUSIVE MODE")
        backup = threading.Thread(target=run, daemon=True)
        backup.start()
        _until_waiting(scene)
        session.execute("LOCK TABLE kept IN ACCESS EXCLUSIVE MODE")
        session.execute("INSERT INTO kept VALUES (1001)")
        session.commit()
    backup.join(30)
    (result,) = results
    assert _rows(result) == {"kept": 1001, "other": 10}


def test_a_table_that_may_not_be_read_is_named(owned_database: Database, tmp_path: Path, server: object) -> None:
    scene = scene_for(owned_database, tmp_path)
    scene.execute("CREATE TABLE secret (id int)", "CREATE TABLE fine (id int)")
    role = psycopg.conninfo.conninfo_to_dict(owned_database.dsn)
    more = {"DB_USER": str(role["user"]), "DB_PASSWORD": str(role["password"]), "BACKUP_CONFIG_FILES": "none"}
    scene.app.mkdir()
    with scene.service(**more, BACKUP_FILE_TREES="none") as service, pytest.raises(DatabaseError, match="secret"):
        service.backup()


def test_the_snapshot_is_what_all_who_import_it_see(scene: Scene) -> None:
    server = _server(scene)
    with application_lock(server, 1) as holder, exported_snapshot(holder, server, None) as snapshot:
        assert {table.name for table in snapshot.tables} == {"kept", "other"}
        assert all(table.has_rows for table in snapshot.tables)
        scene.execute("DELETE FROM kept WHERE id > 10")
        with psycopg.connect(scene.dsn) as session:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            session.execute(f"SET TRANSACTION SNAPSHOT '{snapshot.id}'".encode())
            assert session.execute("SELECT count(*) FROM kept").fetchone() == (1000,)


def test_the_servers_idle_time_outs_do_not_end_the_holder(scene: Scene) -> None:
    for name in ("idle_in_transaction_session_timeout", "statement_timeout", "idle_session_timeout"):
        scene.administer(f"ALTER DATABASE {scene.database} SET {name} = '300ms'")
    bin_folder = tools(scene.root / "bin", scene.server.bin, "sleep 1")
    with scene.service(BACKUP_PG_BIN=str(bin_folder)) as service:
        assert _rows(service.backup())["kept"] == 1000


def test_the_lock_is_the_applications_and_ends_with_its_session(scene: Scene) -> None:
    server = _server(scene)
    with application_lock(server, 7):
        with pytest.raises(BusyError), application_lock(server, 7):
            pass
        with application_lock(server, 8):
            pass
    with application_lock(server, 7) as holder:
        scene.administer(f"SELECT pg_terminate_backend({holder.info.backend_pid})")
        time.sleep(0.1)
        with application_lock(server, 7):
            pass

"""A state of an older version is brought up to this one with everything that it held."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine

from resurgam.catalog.migrate import upgrade
from resurgam.catalog.models import STATE
from resurgam.catalog.schema import STATE_ID, STATE_VERSION
from resurgam.catalog.state import State
from resurgam.errors import StateError
from tests.catalog.test_golden import schema

START = 1_736_000_000_000_000


@contextmanager
def beginning(path: Path) -> Iterator[Connection]:
    """A transaction of SQLAlchemy's in that file."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A state as version 1 left it: a run that ended, one whose process died, a pin."""
    path = tmp_path / "state.sqlite"
    with beginning(path) as connection:
        upgrade(connection, "0001")
        connection.exec_driver_sql(f"PRAGMA application_id = {STATE_ID}")
        connection.exec_driver_sql("PRAGMA user_version = 1")
        dead = '{"token": "gone", "pid": 1, "start": "x", "boot": "y", "host": "z"}'
        told = "Its process ended without a word: killed, out of memory, or the machine stopped."
        for outcome, finished, reason in (
            ("'failed'", START + 4, told),
            ("'degraded'", START + 5, "no copy"),
            ("NULL", "NULL", ""),
        ):
            connection.exec_driver_sql(
                "INSERT INTO runs (kind, target, started_us, finished_us, outcome, reason, details, process) "
                f"VALUES ('backup', 'radiology', {START}, {finished}, {outcome}, '{reason}', '{{\"a\": 1}}', '{dead}')"
            )
        connection.exec_driver_sql(f"INSERT INTO pins VALUES ('kept', {START})")
        connection.exec_driver_sql(f"INSERT INTO identity VALUES ('me', {START})")
    return path


def test_version_1(old: Path) -> None:
    with State.open(old) as state:
        second, first, _ = state.jobs.latest()
        assert (first.state, first.reason, first.details, first.origin) == ("degraded", "no copy", {"a": 1}, "cli")
        assert first.begun_at == first.started_at and first.finished_at is not None
        assert state.jobs.unalerted() == (), "nobody is told now of what died long ago"
        assert [job.id for job in state.jobs.settle_dead()] == [second.id]
        assert state.pinned() == {"kept"}
        assert state.jobs.begin("backup", "new") > second.id
    assert sqlite3.connect(old).execute("PRAGMA user_version").fetchone() == (STATE_VERSION,)


def test_the_models_the_migrations_and_a_new_file_agree(old: Path, tmp_path: Path) -> None:
    State.open(old).close()
    State.open(tmp_path / "new.sqlite").close()
    assert schema(old) == schema(tmp_path / "new.sqlite")
    for path in (old, tmp_path / "new.sqlite"):
        with beginning(path) as connection:
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, STATE) == []
            assert context.get_current_revision() == f"{STATE_VERSION:04}"
            assert connection.exec_driver_sql("PRAGMA application_id").scalar() == STATE_ID
            assert connection.exec_driver_sql("PRAGMA user_version").scalar() == STATE_VERSION


def test_a_migration_that_fails_leaves_the_old_version_whole(old: Path) -> None:
    before = schema(old)
    with closing(sqlite3.connect(old)) as raw:
        # In the way of the last migration.
        raw.execute("CREATE TABLE drills (x)")
    with pytest.raises(StateError, match="drills already exists"):
        State.open(old)
    with closing(sqlite3.connect(old)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (1,)
        raw.execute("DROP TABLE drills")
    assert schema(old) == before
    test_version_1(old)


def _open(path: str) -> int:
    with State.open(Path(path)) as state:
        return len(state.jobs.latest())


def test_many_processes_meet_an_old_state(old: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(_open, [str(old)] * 8) == [3] * 8

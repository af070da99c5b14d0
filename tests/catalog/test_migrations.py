"""A state of an older version is brought up to this one with everything that it held."""

from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from resurgam.catalog import migrate as migration
from resurgam.catalog.models import STATE_ID, STATE_VERSION
from resurgam.catalog.sqlite import Database
from resurgam.catalog.state import State

START = 1_736_000_000_000_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A state as version 1 left it: a run that ended, one whose process died, a pin."""
    path = tmp_path / "state.sqlite"
    database = Database.open(path, wal=False, synchronous="FULL")
    with database.write() as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migration.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
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
    database.close()
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


def _open(path: str) -> int:
    with State.open(Path(path)) as state:
        return len(state.jobs.latest())


def test_many_processes_meet_an_old_state(old: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert pool.map(_open, [str(old)] * 8) == [3] * 8

"""Files as earlier code wrote them: they are read as they were meant, and the same calls write the same today.

golden/*.sql are dumps of a state and a catalog that `golden_files.py` had filled through SQLAlchemy, before it was no
longer part of what runs. In the state the mark of the process was replaced by that of one which is gone.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog.alerts import Alert
from resurgam.catalog.audit_chain import Head
from resurgam.catalog.catalog import Catalog, Description, StoredFile
from resurgam.catalog.state import State
from tests.catalog.golden_files import DIED, GOLDEN, NIGHT, START, fill_catalog, fill_state

TOKEN = "rsg_8792533681f0_3768b177920ec7dff60da7c52f4040bac09fe0c0873269f63fe1913a8ea2b63a"
# Chosen by chance, or the process's own.
VARIED = {("identity", "id"), ("tokens", "id"), ("tokens", "digest")} | {
    (table, "process") for table in ("jobs", "restores", "drills")
}


def restored(name: str, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((GOLDEN / name).read_text())
    return path


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return restored("state_3.sql", tmp_path / "state.sqlite")


@pytest.fixture
def catalog_file(tmp_path: Path) -> Path:
    return restored("catalog_2.sql", tmp_path / "catalog.sqlite")


def schema(path: Path) -> dict[str, str]:
    """Every table's and index's definition by name, without quotes and blanks that mean nothing."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: re.sub(r"\s*([(),])\s*", r"\1", " ".join(sql.replace('"', "").split())) for name, sql in rows}


def rows(path: Path) -> dict[str, list[list[tuple[str, str]]]]:
    """Every table's rows, by its name: columns and values as Python writes them, 1 and 1.0 apart."""
    found = {}
    with closing(sqlite3.connect(path)) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [name for name, *_ in cursor.description]
            found[table] = sorted(
                [(name, repr(value)) for name, value in zip(names, row, strict=True) if (table, name) not in VARIED]
                for row in cursor
            )
    return found


def after(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def test_a_new_state_is_written_as_the_golden_one(state_file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    fill_state(new)
    assert schema(new) == schema(state_file)
    assert rows(new) == rows(state_file)
    assert all(rows(new).values()), "something in every table"


def test_a_new_catalog_is_written_as_the_golden_one(catalog_file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.sqlite"
    fill_catalog(new)
    assert schema(new) == schema(catalog_file)
    assert rows(new) == rows(catalog_file)


def test_jobs(state_file: Path) -> None:
    with State.open(state_file) as state:
        fifth, fourth, third, second, first = state.jobs.latest()
        assert (first.kind, first.target, first.actor, first.origin) == ("backup", "radiology", "räte", "cli")
        assert (first.state, first.reason) == ("failed", "no caf\\udce9")
        assert first.details == {"code": "E", "hint": "ü", "bytes": 12, "part": [1.5, None, True]}
        assert (first.phase, first.done, first.total, first.cancel_requested) == ("dump \\udce9", 12, None, False)
        assert (first.started_at, first.begun_at, first.finished_at) == (after(2), after(2), after(5))
        assert [(line.at, line.level, line.text) for line in state.jobs.lines(first.id)] == [
            (after(3), "INFO", "begun — größer"),
            (after(4), "WARNING", "no caf\\udce9"),
        ]
        assert (second.state, second.origin, second.request) == ("ok", "api", {"name": "x", "check": "full"})
        assert (second.done, second.total, second.cancel_requested) == (2**40, 2**41, True)
        assert (second.started_at, second.begun_at, second.finished_at) == (after(6), after(7), after(9))
        assert (third.state, third.begun_at, third.outcome) == ("queued", None, None)
        assert [job.id for job in state.jobs.unalerted()] == [fourth.id]
        assert state.jobs.mark_alerted(fourth.id) and not state.jobs.mark_alerted(fifth.id)
        assert state.history.counts(0)["backup", "failed"] == 1
        assert state.history.last("restore", ("ok",))[0].seconds == 2.0
        assert state.history.last("backup", ("failed", "degraded"))[0].hint == "ü"
        assert state.history.timings() == ((1000, 2.5),)
        assert [job.id for job in state.jobs.settle_dead()] == [third.id]
        assert (state.jobs.get(third.id).reason, state.jobs.lost_in_line(third.id)) == (DIED, True)
        assert state.jobs.begin("backup", "next") == fifth.id + 1


def test_slots_pins_and_journals(state_file: Path) -> None:
    with State.open(state_file) as state:
        last, before = state.slots.last("backup"), state.slots.last("backup", NIGHT)
        assert last is not None and (last.at, last.claimed_at, last.job_id) == (
            NIGHT + timedelta(hours=1),
            after(17),
            None,
        )
        assert before is not None and (before.at, before.claimed_at, before.job_id) == (NIGHT, after(11), 3)
        assert not state.slots.claim("backup", NIGHT)
        assert state.pinned() == {"kept", "größer"}
        ended, opened = state.journals()
        assert (ended.restore_id, ended.plan, ended.outcome) == ("r1", {"targets": ["database"]}, "done")
        assert [(step.step, step.data, step.at) for step in ended.steps] == [
            ("loaded", {"database": "d"}, after(21)),
            ("swapped", {}, after(22)),
            ("swept", {"n": 1}, after(24)),
        ]
        assert (ended.started_at, ended.ended_at) == (after(20), after(23))
        assert (opened.restore_id, opened.plan, opened.alive, opened.steps) == ("r2", {"ü": None}, False, ())
        assert [journal.restore_id for journal in state.open_journals()] == ["r2"]


def test_tokens_and_audit_log(state_file: Path) -> None:
    with State.open(state_file) as state:
        ci, old = state.tokens.all()
        assert (ci.name, ci.role, ci.bootstrap, ci.created_at, ci.used_at) == (
            "ci",
            "operator",
            False,
            after(26),
            after(28),
        )
        assert ci.expires_at == after(26) + timedelta(days=36500)
        assert (old.name, old.role, old.expires_at, old.revoked_at) == ("old", "viewer", None, after(30))
        assert state.tokens.check(TOKEN).verdict == "good"
        assert state.tokens.check(TOKEN[:-1] + "0").verdict == "wrong"
        head = Head(2, "7f8c59ee6065cd6afb7e895c33c4a836143a835b386000aa0d051c55007ac23b")
        check = state.audit.verify()
        assert (check.entries, check.problems, check.last) == (2, (), head)
        second, first = state.audit.page()
        assert (first.actor, first.role, first.target, first.at) == ("token:ci", "admin", "radiology\\x00", after(31))
        assert first.details == {"n": 1, "deep": {"x": [1, 2.5, None]}}
        assert (second.role, second.target, second.outcome) == ("", "größer", "refused")
        assert state.audit.append("root", None, "cli", "backup", "x", "ok") == 3
        assert state.audit.verify().problems == ()


def test_alerts_channels_signs_and_drills(state_file: Path) -> None:
    low = Alert("disk:low", "warning", "Only 3 % é", NIGHT, NIGHT + timedelta(microseconds=1), 2)
    with State.open(state_file) as state:
        assert state.alerts.of("disk:") == (low,)
        assert [alert.key for alert in state.alerts.of("disk")] == ["disk:low", "disk_x"]
        assert state.alerts.replace("disk:low", low, None) and state.alerts.get("disk:low") is None
        mail, hook = state.channels.all()
        assert (mail.label, mail.ok_at, mail.failed_at, mail.problem) == (
            "mail to a",
            after(33),
            after(34),
            "refused \\udce9",
        )
        assert (hook.ok_at, hook.failed_at, hook.problem) == (after(35), None, "")
        loop, jump = state.signs.get("loop"), state.signs.get("clock_jump")
        assert loop is not None and (loop.at, loop.data) == (after(36), {})
        assert jump is not None and (jump.at, jump.data) == (after(37), {"seconds": -3.5})
        passed = state.drills.last()
        assert passed is not None and (passed.backup, passed.outcome, passed.scratch) == ("b1", "passed", None)
        assert (passed.rto, passed.rpo, passed.report) == (12.345678, 0.5, {"rows": 3, "ä": [True]})
        assert (passed.started_at, passed.finished_at, passed.digest) == (after(38), after(39), "ab" * 32)
        (dead,) = state.drills.dead()
        assert (dead.backup, dead.outcome, dead.scratch) == ("b2", None, {"database": "scratch2"})
        assert state.drills.verdicts() == {"b1": "passed"}


def test_the_catalog_is_taken_as_it_is(catalog_file: Path) -> None:
    def never(file: StoredFile) -> Description:
        raise AssertionError(f"{file.name} was described again")

    names = ("a", "b", "r_backup_20250105_143022", "größer")
    files = [StoredFile("local", name, 10, 10**18 + 1, 2**40) for name in names]
    with Catalog.open(catalog_file) as catalog:
        assert catalog.persistent and catalog.refresh("local", files, never) == 0
        foreign, good, twice, sealed = catalog.backups()
        assert (foreign.name, foreign.condition, foreign.sequence) == ("größer", "foreign", 0)
        assert foreign.taken_at == datetime(2025, 1, 6, 14, 30, 22, tzinfo=UTC)
        assert (good.name, good.sequence, good.database_size, good.size) == ("a", 7, 5, 10)
        assert good.taken_at == datetime(2025, 1, 4, 14, 30, 22, 123456, tzinfo=UTC)
        assert [(copy.location, copy.condition, copy.problem) for copy in twice.copies] == [
            ("remote", "good", ""),
            ("local", "damaged", "no caf\\udce9"),
        ]
        assert (sealed.condition, sealed.sequence, sealed.copies[0].form) == ("sealed", 7, "age")
        metadata = catalog.metadata("a")
        assert metadata is not None and (metadata["sequence"], metadata["ü"]) == (7, [None, 1.5])
        assert catalog.next_sequence() == 8

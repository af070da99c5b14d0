"""What the golden state and catalog hold: written by these calls when SQLAlchemy stood between them and SQLite."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from resurgam.catalog.alerts import Alert
from resurgam.catalog.catalog import Catalog, Description, StoredFile
from resurgam.catalog.state import State

GOLDEN = Path(__file__).parent / "golden"
START = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
NIGHT = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
DIED = "Its process ended without a word: killed, out of memory, or the machine stopped."


class Ticking:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


def fill_state(path: Path) -> None:
    """A new state with something in every table."""
    with State.open(path, clock=Ticking()) as state:
        _fill_jobs(state)
        _fill_journals(state)
        _fill_tokens_and_audit(state)
        low = Alert("disk:low", "warning", "Only 3 % é", NIGHT, NIGHT + timedelta(microseconds=1), 2)
        assert state.alerts.replace("disk:low", None, low)
        assert state.alerts.replace("disk_x", None, Alert("disk_x", "error", "full", NIGHT, NIGHT, 0))
        state.channels.note("c1", "mail to a")
        state.channels.note("c1", "mail to a", "refused \udce9")
        state.channels.note("c2", "hook")
        state.signs.put("loop")
        state.signs.put("clock_jump", {"seconds": -3.5})
        passed = state.drills.begin("b1", {"database": "scratch"})
        state.drills.end(passed, "passed", {"rows": 3, "ä": [True]}, "ab" * 32, rto=12.345678, rpo=0.5)
        state.drills.cleaned(passed)
        state.drills.begin("b2", {"database": "scratch2"})


def _fill_jobs(state: State) -> None:
    jobs = state.jobs
    first = jobs.begin("backup", "radiology", actor="räte")
    jobs.progress(first, "dump \udce9", 12, None)
    jobs.say(first, "INFO", "begun — größer")
    jobs.say(first, "WARNING", os.fsdecode(b"no caf\xe9"))
    details = {"code": "E", "hint": "ü", "bytes": 12, "part": [1.5, None, True]}
    jobs.finish(first, "failed", os.fsdecode(b"no caf\xe9"), details)
    request = {"name": "x", "check": "full"}
    second = jobs.submit("restore", "radiology_backup_20250104_143022", origin="api", actor="token:ci", request=request)
    jobs.take_over(second)
    assert not jobs.progress(second, "load", 2**40, 2**41)
    jobs.request_cancel(second)
    jobs.finish(second, "ok", details={"result": {"bytes": 1000, "seconds": 2.5}})
    jobs.submit("backup", "radiology", origin="schedule", actor="", also=state.slots.taking("backup", NIGHT))
    jobs.finish(jobs.begin("verify", "x"), "failed", DIED)
    told = jobs.begin("verify", "y")
    jobs.finish(told, "failed", DIED)
    assert jobs.mark_alerted(told)
    assert state.slots.claim("backup", NIGHT + timedelta(hours=1))


def _fill_journals(state: State) -> None:
    state.pin("kept")
    state.pin("größer")
    state.journal_begin("r1", {"targets": ["database"]})
    state.journal_step("r1", "loaded", {"database": "d"})
    state.journal_step("r1", "swapped")
    state.journal_end("r1", "done")
    state.journal_note("r1", "swept", {"n": 1})
    state.journal_begin("r2", {"ü": None})


def _fill_tokens_and_audit(state: State) -> None:
    text, _ = state.tokens.create("ci", "operator", timedelta(days=36500))
    assert state.tokens.check(text).verdict == "good"
    state.tokens.create("old", "viewer", None)
    state.tokens.revoke("old")
    details = {"n": 1, "deep": {"x": [1, 2.5, None]}}
    state.audit.append("token:ci", "admin", "api", "restore", "radiology\0", "ok", details)
    state.audit.append("root", None, "cli", "backup", "größer", "refused")


def fill_catalog(path: Path) -> None:
    """A new catalog with a backup of every kind."""
    own = {
        "sequence": 7,
        "datetime_utc": "2025-01-04T14:30:22.123456+00:00",
        "database": {"size_bytes": 5},
        "ü": [None, 1.5],
    }
    known = {
        "a": Description("good", "", own),
        "b": Description("damaged", os.fsdecode(b"no caf\xe9")),
        "r_backup_20250105_143022": Description("sealed"),
        "größer": Description("foreign", "", {"datetime": "2025-01-06T14:30:22"}),
    }
    here = [StoredFile("local", name, 10, 10**18 + 1, 2**40, "age" if name[0] == "r" else "") for name in known]
    with Catalog.open(path) as catalog:
        catalog.refresh("local", here, lambda file: known[file.name])
        catalog.refresh("remote", [StoredFile("remote", "b", 11, 3, 0)], lambda file: known["a"])

"""The state: what was written is there after any death, and its loss or damage is never passed over."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from _thread import interrupt_main
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog import state_file
from resurgam.catalog.state import JournalStep, State
from resurgam.errors import StateError
from resurgam.stopping import Stopped, StopSignals, unwind_main_thread


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time

    def monotonic(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def run_script(body: str, path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Python that finds `state` open and `args` given."""
    code = "import os, sys, time\nfrom pathlib import Path\nfrom resurgam.catalog.state import State\n"
    code += f"args = sys.argv[1:]\nstate = State.open(Path({str(path)!r}))\n{body}"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def killed_after_a_line(body: str, path: Path) -> None:
    process = run_script(body + "\nprint('ready', flush=True)\ntime.sleep(60)", path)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_new_state_is_private_and_survives(path: Path) -> None:
    with State.open(path) as state:
        assert state.warnings == ()
        state.pin("b1")
    assert path.stat().st_mode & 0o777 == 0o600
    with State.open(path) as state:
        assert state.warnings == ()
        assert state.pinned() == {"b1"}
    assert sorted(file.name for file in path.parent.iterdir()) == [".resurgam-state", "state.sqlite"]


def test_runs(path: Path) -> None:
    with State.open(path, clock=Watch()) as state:
        first = state.jobs.begin("backup", "radiology")
        second = state.jobs.begin("restore", "radiology_backup_20250104_143022")
        assert [run.id for run in state.jobs.unfinished()] == [first, second]
        state.jobs.finish(first, "failed", os.fsdecode(b"no caf\xe9"), {"bytes": 12})
        state.jobs.finish(second, "ok")
        latest, before = state.jobs.latest()
        assert (latest.id, latest.kind, latest.outcome, latest.details) == (second, "restore", "ok", {})
        assert (before.outcome, before.reason, before.details) == ("failed", "no caf\\udce9", {"bytes": 12})
        assert before.started_at == datetime(2026, 11, 22, 12, 0, 2, 123456, tzinfo=UTC)
        assert before.finished_at == datetime(2026, 11, 22, 12, 0, 4, 123456, tzinfo=UTC)
        assert [run.id for run in state.jobs.latest(limit=1)] == [second]
        assert [run.id for run in state.jobs.latest(kind="backup")] == [first]
        assert state.jobs.unfinished() == ()
        with pytest.raises(StateError, match="no job 77"):
            state.jobs.finish(77, "ok")


def test_pins(path: Path) -> None:
    with State.open(path) as state:
        for _ in range(2):
            state.pin("b1")
        state.pin("b2")
        assert state.pinned() == {"b1", "b2"}
        for _ in range(2):
            state.unpin("b1")
        assert state.pinned() == {"b2"}


def test_journals(path: Path) -> None:
    with State.open(path, clock=Watch()) as state:
        state.journal_begin("r1", {"targets": ["database"]})
        state.journal_step("r1", "loaded", {"database": "radiology_db_r1"})
        state.journal_step("r1", "swapped")
        state.journal_begin("r2", {})
        first, second = state.open_journals()
        assert (first.restore_id, first.plan, first.alive) == ("r1", {"targets": ["database"]}, True)
        assert [(step.step, step.data) for step in first.steps] == [
            ("loaded", {"database": "radiology_db_r1"}),
            ("swapped", {}),
        ]
        assert isinstance(first.steps[0], JournalStep) and first.steps[0].at < first.steps[1].at
        assert second.steps == ()
        state.journal_end("r1", "done")
        assert [journal.restore_id for journal in state.open_journals()] == ["r2"]
        ended = state.journal("r1")
        assert ended is not None and (ended.outcome, ended.alive, len(ended.steps)) == ("done", False, 2)
        assert [journal.restore_id for journal in state.journals()] == ["r1", "r2"]
        assert state.journal("r3") is None
        with pytest.raises(StateError, match="no open restore r1"):
            state.journal_step("r1", "late")
        with pytest.raises(StateError, match="no open restore r1"):
            state.journal_end("r1", "again")
        with pytest.raises(StateError, match="r2 already"):
            state.journal_begin("r2", {})


def test_a_killed_run_is_marked_failed_and_a_living_one_is_not(path: Path) -> None:
    killed_after_a_line("state.jobs.begin('backup', 'killed'); state.journal_begin('r1', {'a': 1})", path)
    living = run_script("state.jobs.begin('backup', 'living'); print('ready', flush=True); sys.stdin.read()", path)
    assert living.stdout is not None
    assert living.stdout.readline() == "ready\n"
    try:
        with State.open(path) as state:
            assert [run.target for run in state.jobs.unfinished()] == ["living"]
            dead = state.jobs.latest()[1]
            assert (dead.target, dead.outcome) == ("killed", "failed")
            assert "killed" in dead.reason and dead.finished_at is not None
            (journal,) = state.open_journals()
            assert not journal.alive
            assert journal.plan == {"a": 1}
    finally:
        living.kill()
        living.wait()
    with State.open(path) as state:
        assert state.jobs.unfinished() == ()
    assert sorted(file.name for file in path.parent.iterdir()) == [".resurgam-state", "state.sqlite"]


def test_a_program_started_by_a_run_does_not_keep_it_alive(path: Path) -> None:
    body = "import subprocess\nstate.jobs.begin('backup', 'x')\nchild = subprocess.Popen(['sleep', '20'])"
    process = run_script(body + "\nprint(child.pid, flush=True)\ntime.sleep(60)", path)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    try:
        with State.open(path) as state:
            assert state.jobs.unfinished() == ()
    finally:
        os.kill(child, signal.SIGKILL)


def test_without_its_sign_of_life_pid_and_start_time_decide(path: Path) -> None:
    with State.open(path) as state:
        state.jobs.begin("backup", "x")
        (sign,) = path.parent.glob(".state.sqlite.alive-*")
        sign.unlink()
        with State.open(path) as other:
            assert len(other.jobs.unfinished()) == 1
        with sqlite3.connect(path) as raw:
            raw.execute("UPDATE jobs SET process = json_set(process, '$.boot', 'another boot')")
        raw.close()
        with State.open(path) as other:
            assert other.jobs.unfinished() == ()


def test_what_was_written_is_there_after_kills(path: Path) -> None:
    body = """
for number in range(100000):
    run = state.jobs.begin("backup", str(number))
    state.journal_begin(f"r{number}", {})
    state.journal_step(f"r{number}", "step")
    state.journal_end(f"r{number}", "done")
    state.jobs.finish(run, "ok")
    print(number, flush=True)
"""
    State.open(path).close()
    for delay in (0.01, 0.07, 0.13, 0.19):
        path.unlink()
        (path.parent / ".resurgam-state").unlink()
        process = run_script(body, path)
        assert process.stdout is not None
        last = int(process.stdout.readline())
        time.sleep(delay)
        process.kill()
        rest = process.stdout.read().split("\n")
        process.wait()
        last = max([last, *(int(line) for line in rest[:-1])])
        with State.open(path) as state:
            assert state.warnings == ()
            state.jobs.unfinished()
            done = [run for run in state.jobs.latest(limit=100000) if run.outcome == "ok"]
            assert last + 1 <= len(done) <= last + 2
            assert len(state.jobs.latest(limit=100000)) - len(done) <= 1
            assert len(state.open_journals()) <= 1


def test_processes_that_create_and_write_together(path: Path) -> None:
    body = (
        "for n in range(50):\n  state.jobs.finish(state.jobs.begin('backup', args[0]), 'ok')\n"
        "  state.pin(args[0] + str(n))"
    )
    writers = [run_script(body, path, name) for name in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0, 0]
    with State.open(path) as state:
        assert len(state.jobs.latest(limit=1000)) == 200
        assert len(state.pinned()) == 200
        assert len({run.id for run in state.jobs.latest(limit=1000)}) == 200


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "middle"])
def test_a_damaged_state_is_refused_and_left_as_it_is(path: Path, damage: str) -> None:
    with State.open(path) as state:
        for number in range(300):
            state.pin(f"backup-{number:050}")
    content = path.read_bytes()
    bad = {
        "text": b"this is no database" * 100,
        "empty": b"",
        "cut": content[: len(content) // 2],
        "middle": content[:8192] + b"\xa5" * (len(content) - 8192),
    }[damage]
    path.write_bytes(bad)
    with pytest.raises(StateError) as caught:
        State.open(path)
    assert str(path) in caught.value.message and "damaged" in caught.value.message
    assert caught.value.hint
    assert path.read_bytes() == bad


def test_a_lost_state_is_made_anew_with_a_loud_warning(path: Path, tmp_path: Path) -> None:
    backups = tmp_path / "backups"
    backups.mkdir()
    with State.open(path, catalog_dir=backups) as state:
        state.pin("b1")
    path.unlink()
    with State.open(path, catalog_dir=backups) as state:
        assert len(state.warnings) == 1
        assert str(path) in state.warnings[0] and "pins" in state.warnings[0]
        assert state.pinned() == frozenset()
    with State.open(path, catalog_dir=backups) as state:
        assert state.warnings == ()


def test_a_state_looked_for_elsewhere_is_said_to_be_lost_with_its_place(path: Path, tmp_path: Path) -> None:
    State.open(path).close()
    moved = tmp_path / "moved.sqlite"
    with State.open(moved, catalog_dir=path.parent) as state:
        assert f"one existed at {path}" in state.warnings[0]


def test_a_marker_that_says_nothing_still_warns(path: Path) -> None:
    (path.parent / ".resurgam-state").write_bytes(b"\xff")
    with State.open(path) as state:
        assert "was missing" in state.warnings[0]


def test_the_log_of_a_lost_state_is_not_applied_to_the_new_one(path: Path) -> None:
    killed_after_a_line("for n in range(200): state.pin(str(n))", path)
    assert path.with_name("state.sqlite-wal").stat().st_size > 0
    path.unlink()
    with State.open(path) as state:
        assert state.warnings
        assert state.pinned() == frozenset()


def test_a_beginning_left_by_a_kill_is_no_hindrance(path: Path) -> None:
    (path.parent / ".state.sqlite.partial").write_bytes(b"half a file" * 1000)
    with State.open(path) as state:
        assert state.warnings == ()
        state.pin("b1")
    assert not (path.parent / ".state.sqlite.partial").exists()


@pytest.mark.parametrize("pragma", ["user_version = 999", "application_id = 5"])
def test_a_newer_or_foreign_file_is_refused(path: Path, pragma: str) -> None:
    State.open(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA {pragma}")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="left as it is"):
        State.open(path)
    assert path.read_bytes() == before


def test_a_network_file_system_is_refused_with_the_setting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fault injected: no network file system can be mounted in a test.
    monkeypatch.setattr(state_file, "filesystem_type", lambda _: "nfs4")
    with pytest.raises(StateError) as caught:
        State.open(path)
    assert "nfs4" in caught.value.message and "BACKUP_STATE_FILE" in caught.value.hint
    assert not path.exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        State.open(tmp_path / "missing" / "state.sqlite")
    assert "No such file or directory" in caught.value.message


def test_a_full_disk_is_reported_and_what_was_there_stays(path: Path) -> None:
    with State.open(path) as state:
        state.pin("b1")
        pages = state._access.database.pragma("page_count")
        state._access.database.pragma(f"max_page_count = {pages}")
        with pytest.raises(StateError, match="full"):
            for number in range(10000):
                state.pin(f"{number:0100}")
    with State.open(path) as state:
        assert "b1" in state.pinned()


def test_what_was_written_waits_for_the_disk(path: Path) -> None:
    with State.open(path) as state:
        assert state._access.database.pragma("synchronous") == 2


def test_only_a_migration_imports_sqlalchemy(path: Path) -> None:
    for _ in ("created", "opened"):
        process = run_script("assert not {'alembic', 'sqlalchemy'} & set(sys.modules)", path)
        assert process.wait(30) == 0


@pytest.mark.parametrize("ours", [True, False], ids=["our signals", "Python's own Ctrl-C"])
def test_a_signal_within_a_statement_keeps_the_file_usable(path: Path, ours: bool) -> None:
    """How a job was ended is written after the signal that ended it, wherever that came."""
    before = signal.getsignal(signal.SIGINT)
    try:
        with State.open(path) as state:
            for number in range(20):
                job = state.jobs.begin("backup", "x")
                if ours:
                    StopSignals().install()
                else:
                    # A shell starts what runs in its background with SIGINT ignored.
                    signal.signal(signal.SIGINT, signal.default_int_handler)
                ending = threading.Timer(0.01 + number * 0.0007, unwind_main_thread if ours else interrupt_main)
                ending.start()
                until = time.monotonic() + 20
                with pytest.raises(Stopped if ours else KeyboardInterrupt):
                    while time.monotonic() < until:
                        state.jobs.say(job, "INFO", "x")
                ending.join()
                state.jobs.finish(job, "cancelled")
                assert state.jobs.get(job).state == "cancelled"
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, before)

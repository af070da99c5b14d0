"""Every run ends with a record: in the history, in the log, and as one error of ours."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from resurgam.catalog.jobs import Job
from resurgam.catalog.state import State
from resurgam.clock import SystemClock
from resurgam.errors import BusyError, DatabaseError, ResurgamError, StateError, StorageError
from resurgam.jobs.ended import Ended
from resurgam.jobs.recorded import Boundary
from resurgam.operations.progress import Progress, Silent
from resurgam.runlog import RunLog
from tests.state_faults import unwritable


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with State.open(tmp_path / "state.sqlite") as opened:
        yield opened


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog(tmp_path / "logs/backup.log", SystemClock())


def _raise(error: BaseException) -> Callable[[Progress], str]:
    def act(progress: Progress) -> str:
        raise error

    return act


def _run(state: State, log: RunLog, act: Callable[[Progress], str], ended: Ended | None = None) -> str:
    return Boundary(state, log).run("backup", "app", act, lambda result: ended or Ended("ok", result), Silent())


def test_a_good_and_a_degraded_run(state: State, log: RunLog) -> None:
    assert _run(state, log, lambda progress: "done") == "done"
    _run(state, log, lambda progress: "half", Ended("degraded", "no copy"))
    degraded, good = state.jobs.latest()
    assert (good.outcome, good.reason) == ("ok", "")
    assert (degraded.outcome, degraded.reason) == ("degraded", "no copy")
    lines = log.path.read_text().splitlines()
    assert [" ERROR " in line for line in lines] == [False, False, False, True]
    assert lines[1].endswith("backup app: ok: done [job=1 outcome=ok]")


@pytest.mark.parametrize(
    ("error", "kind", "outcome"),
    [
        (BusyError("another one"), BusyError, "refused"),
        (StorageError("full", "make room"), StorageError, "failed"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), StorageError, "failed"),
        (psycopg.OperationalError("server closed\nthe connection"), DatabaseError, "failed"),
        (KeyboardInterrupt(), KeyboardInterrupt, "failed"),
        (ValueError("a bug"), ValueError, "failed"),
    ],
)
def test_every_end_is_recorded(
    state: State, log: RunLog, error: BaseException, kind: type[BaseException], outcome: str
) -> None:
    with pytest.raises(kind) as caught:
        _run(state, log, _raise(error))
    (run,) = state.jobs.latest()
    assert run.outcome == outcome and run.finished_at is not None
    last = log.path.read_text().splitlines()[-1]
    assert " ERROR " in last and run.reason in last and f"job={run.id}" in last
    if isinstance(caught.value, ResurgamError):
        assert run.reason == caught.value.message and run.details["code"] == caught.value.code


def test_a_state_that_can_not_be_written_does_not_hide_why_the_run_failed(state: State, log: RunLog) -> None:
    """The disk is full: the backup fails for that, and its record can't be written for the same reason."""
    with unwritable(state.path, "jobs", "UPDATE"), pytest.raises(StorageError, match="No space left"):
        _run(state, log, _raise(OSError(errno.ENOSPC, "No space left on device")))
    assert any(" ERROR " in line and "No space left" in line for line in log.path.read_text().splitlines())


def test_what_the_state_could_not_take_is_in_the_log(state: State, log: RunLog) -> None:
    with unwritable(state.path, "jobs", "INSERT"), pytest.raises(StateError):
        _run(state, log, lambda progress: "never done")
    begun = log.path.read_text().splitlines()
    assert len(begun) == 1 and " ERROR " in begun[0] and "could not be begun" in begun[0]
    with unwritable(state.path, "jobs", "UPDATE"), pytest.raises(StateError):
        _run(state, log, lambda progress: "done, 45 MB")
    last = log.path.read_text().splitlines()[-1]
    assert " ERROR " in last and "done, 45 MB" in last and "could not be kept" in last


def test_progress_that_can_not_be_kept_fails_no_run(state: State, log: RunLog) -> None:
    def act(progress: Progress) -> str:
        progress.phase("Saving")
        return "done"

    with unwritable(state.path, "job_lines", "INSERT"):
        assert _run(state, log, act) == "done"
    assert state.jobs.latest()[0].outcome == "ok" and "WARNING" in log.path.read_text()


def test_an_interrupt_while_the_beginning_is_told_is_recorded(state: State, log: RunLog) -> None:
    """A ping may take seconds."""

    class Interrupted:
        def started(self, kind: str, target: str) -> None:
            raise KeyboardInterrupt

        def ended(self, job: Job) -> None: ...

        def died(self, job: Job) -> None: ...

    boundary = Boundary(state, log, announcer=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        boundary.run("backup", "app", lambda progress: "", lambda result: Ended("ok", result), Silent())
    assert state.jobs.latest()[0].outcome == "failed"


def test_a_log_that_can_not_be_written_fails_no_run(state: State, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = RunLog(tmp_path / "file/backup.log", SystemClock())
    assert _run(state, log, lambda progress: "1") == "1"
    assert "can not be written" in log.trouble

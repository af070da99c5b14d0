"""What died is logged and told of once, whoever noticed it first."""

from __future__ import annotations

from pathlib import Path

import pytest

from resurgam.catalog.jobs import Job
from resurgam.catalog.state import State
from resurgam.clock import SystemClock
from resurgam.jobs.dead import DeadJobs, see_to_the_dead
from resurgam.runlog import RunLog


def test_a_death_that_somebody_else_noticed_is_logged_and_told_once(tmp_path: Path) -> None:
    """As a look at health does, many times a minute."""
    with State.open(tmp_path / "state.sqlite") as state:
        log, told = RunLog(tmp_path / "backup.log", SystemClock()), list[Job]()
        with State.open(tmp_path / "state.sqlite") as dying:
            job = dying.jobs.begin("backup", "radiology")
        assert state.jobs.unfinished() == ()
        for _ in range(2):
            see_to_the_dead(state, log, told.append)
        lines = log.path.read_text().splitlines()
        assert [one.id for one in told] == [job]
        assert len(lines) == 1 and " ERROR " in lines[0] and "the process that ran it died" in lines[0]


def test_a_service_that_runs_for_months_keeps_the_logs_of_the_latest_jobs_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resurgam.catalog.jobs._KEPT_LINES", 2)
    with State.open(tmp_path / "state.sqlite") as state:
        log = RunLog(tmp_path / "backup.log", SystemClock())
        chore = DeadJobs(state, log, lambda job: None, lambda: True)
        for _ in range(2):
            chore.run(SystemClock().now())
            jobs = [state.jobs.begin("backup", "radiology") for _ in range(3)]
            for job in jobs:
                state.jobs.say(job, "INFO", "Saving")
                state.jobs.finish(job, "ok")
        chore.run(SystemClock().now())
        assert [len(state.jobs.lines(job.id)) for job in state.jobs.latest()] == [1, 1, 0, 0, 0, 0]

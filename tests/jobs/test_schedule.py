"""The chore of the schedule: each slot once, whoever dies and whatever the clock does (docs/ordering.md, 26-30)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog.state import State
from resurgam.errors import StorageError
from resurgam.jobs.runner import Runner
from resurgam.jobs.schedule import ScheduleChore, upcoming
from resurgam.settings.service_model import Schedule, Window
from tests.clusters import ROOT, soaking
from tests.jobs.schedulers import NIGHTLY, Scheduler

HEAD = """
import os, signal, sys, time
from datetime import datetime
from pathlib import Path
from tests.jobs.schedulers import Scheduler
scheduler = Scheduler(Path(sys.argv[1]))
"""


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    made = Scheduler(tmp_path)
    yield made
    made.state.close()


def start(body: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HEAD + body, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_slot_becomes_one_job(scheduler: Scheduler) -> None:
    assert scheduler.at("2026-11-22T01:59:30") == datetime(2026, 11, 22, 2, tzinfo=UTC)
    assert scheduler.asked() == []
    for second in range(0, 60, 5):
        scheduler.at(f"2026-11-22T02:00:{second:02}")
    assert scheduler.asked() == [("backup", "queued")]
    (job,) = scheduler.state.jobs.latest()
    assert (job.origin, job.actor, job.target) == ("schedule", "schedule", "radiology")
    last = scheduler.state.slots.last("backup")
    assert last is not None and (last.at, last.job_id) == (datetime(2026, 11, 22, 2, tzinfo=UTC), job.id)
    scheduler.work()
    scheduler.at("2026-11-23T02:00")
    assert scheduler.asked() == [("backup", "ok"), ("backup", "queued")]


def test_verify_asks_for_all_backups_and_disabled_asks_for_nothing(tmp_path: Path) -> None:
    off = Scheduler(tmp_path, enabled=False)
    off.at("2026-11-22T01:59")
    off.at("2026-11-22T02:00")
    assert off.asked() == []
    both = Scheduler(tmp_path, replace(NIGHTLY, verify="0 2 * * *"))
    both.at("2026-11-22T01:59")
    both.at("2026-11-22T02:00")
    assert both.asked() == [("backup", "queued"), ("verify", "queued")]
    assert both.state.jobs.latest()[0].request == {"name": ""}
    off.state.close()
    both.state.close()


def test_29_a_run_that_can_not_be_queued_is_passed_over(scheduler: Scheduler) -> None:
    scheduler.at("2026-11-22T01:59")
    for _ in range(2):
        scheduler.state.jobs.submit("backup", "radiology", origin="api", actor="admin", wait=True)
    scheduler.at("2026-11-22T02:00")
    scheduler.at("2026-11-22T02:01")
    assert len(scheduler.asked()) == 2
    assert scheduler.told.count("is skipped") == 1
    (row,) = upcoming(scheduler.plans, scheduler.state, scheduler.clock.now())
    assert (row["last_slot"], row["last_job_id"], row["last_outcome"]) == ("2026-11-22T02:00:00+00:00", None, "skipped")
    assert row["next_run"] == "2026-11-23T02:00:00+00:00"


def test_30_catch_up_after_downtime_but_not_before_the_schedule_was_seen(tmp_path: Path) -> None:
    first = Scheduler(tmp_path)
    first.at("2026-11-20T10:00")
    assert first.asked() == [], "02:00 of that day was before"
    first.state.close()
    later = Scheduler(tmp_path)
    later.at("2026-11-22T10:00")
    assert later.asked() == [("backup", "queued")], "of two missed slots the latest"
    assert "made up for" in later.told
    later.work()
    later.state.close()
    changed = Scheduler(tmp_path, replace(NIGHTLY, backup="0 9 * * *"))
    changed.at("2026-11-22T10:05")
    assert changed.asked() == [("backup", "ok")], "09:00 is new"
    changed.at("2026-11-25T09:00:10")
    assert changed.asked() == [("backup", "ok"), ("backup", "queued")]
    changed.state.close()


def test_30_a_clock_set_back_an_hour_runs_nothing_twice(scheduler: Scheduler) -> None:
    scheduler.at("2026-11-22T01:59")
    scheduler.at("2026-11-22T02:00")
    scheduler.work()
    for minute in (5, 30, 59):
        scheduler.at(f"2026-11-22T01:{minute:02}")
    scheduler.at("2026-11-22T02:00")
    scheduler.at("2026-11-22T02:05")
    assert scheduler.asked() == [("backup", "ok")]


def test_30_a_clock_that_leaps_a_year_and_comes_back_makes_no_storm_and_no_silence(scheduler: Scheduler) -> None:
    scheduler.at("2026-11-22T01:59")
    scheduler.at("2026-11-22T02:00")
    scheduler.work()
    for minute in range(5):
        scheduler.at(f"2027-11-22T12:0{minute}")
        scheduler.work()
    assert len(scheduler.asked()) == 2, "the latest slot alone is made up for"
    scheduler.at("2026-11-22T02:30")
    scheduler.at("2026-11-23T02:00")
    scheduler.work()
    assert len(scheduler.asked()) == 3, "what was taken ahead holds nothing back"
    scheduler.at("2027-11-22T01:59")
    scheduler.work()
    scheduler.at("2027-11-22T02:00")
    assert scheduler.asked()[-1] == ("backup", "queued"), "and its own time comes"


def test_a_blackout_without_end_is_told_once(tmp_path: Path) -> None:
    never = Scheduler(tmp_path, replace(NIGHTLY, blackout=(Window(frozenset(range(7)), 0, 1440),)))
    never.at("2026-11-22T02:00")
    never.at("2026-11-22T02:01")
    assert never.told.count(" ERROR ") == 1 and "never runs" in never.told
    assert upcoming(never.plans, None, never.clock.now())[0]["next_run"] is None
    never.state.close()


def test_upcoming_tells_of_the_jitter(tmp_path: Path) -> None:
    jittered = Scheduler(tmp_path, Schedule(backup="0 2 * * *", timezone="Europe/Berlin", jitter=3600.0))
    (row,) = upcoming(jittered.plans, None, jittered.clock.now())
    at = datetime.fromisoformat(row["next_run"])
    assert at - timedelta(seconds=row["jitter_seconds"]) == datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert row["timezone"] == "Europe/Berlin" and row["next_run"].endswith("+01:00")
    assert 0 < row["jitter_seconds"] < 3600
    jittered.state.close()


IN_THE_TRANSACTION = """
take = scheduler.state.slots.taking
def taking(*given, **more):
    def dying(connection, job):
        take(*given, **more)(connection, job)
        os.kill(os.getpid(), signal.SIGKILL)
    return dying
scheduler.state.slots.taking = taking
"""
BEFORE_THE_WORKER = """
submit = scheduler.state.jobs.submit
def dying(*given, **more):
    submit(*given, **more)
    os.kill(os.getpid(), signal.SIGKILL)
scheduler.state.jobs.submit = dying
"""


@pytest.mark.parametrize(
    ("death", "left"), [(IN_THE_TRANSACTION, []), (BEFORE_THE_WORKER, [("backup", "failed")])], ids=["27", "28"]
)
def test_27_28_a_scheduler_that_is_killed_loses_no_slot(
    scheduler: Scheduler, tmp_path: Path, death: str, left: list[tuple[str, str]]
) -> None:
    scheduler.at("2026-11-22T01:59")
    dying = start(death + "scheduler.at('2026-11-22T02:00')", tmp_path)
    assert dying.wait(30) == -signal.SIGKILL
    scheduler.state.jobs.settle_dead()
    for minute in (1, 2, 3):
        scheduler.at(f"2026-11-22T02:0{minute}")
    assert scheduler.asked() == [*left, ("backup", "queued")]
    last = scheduler.state.slots.last("backup")
    assert last is not None and last.job_id == scheduler.state.jobs.latest()[0].id
    scheduler.work()
    scheduler.at("2026-11-22T02:04")
    assert len(scheduler.asked()) == len(left) + 1


def test_28_a_job_that_nobody_took_over_is_not_asked_for_again_after_catch_up(tmp_path: Path) -> None:
    late = Scheduler(tmp_path, replace(NIGHTLY, catch_up=3600.0))
    late.at("2026-11-22T01:59")
    dying = start(BEFORE_THE_WORKER + "scheduler.at('2026-11-22T02:00')", tmp_path)
    assert dying.wait(30) == -signal.SIGKILL
    late.state.jobs.settle_dead()
    late.at("2026-11-22T03:01")
    assert late.asked() == [("backup", "failed")]
    late.state.close()


def test_a_real_runner_starts_the_worker_and_one_that_ends_badly_is_not_started_again(scheduler: Scheduler) -> None:
    """Otherwise a worker that can not start would be started anew every minute until catch-up ends."""
    runner = Runner(scheduler.state, scheduler.log, dict(os.environ), command=(sys.executable, "-c", "exit(7)"))
    scheduler.chore = ScheduleChore(scheduler.plans, scheduler.state, runner, scheduler.log)
    scheduler.at("2026-11-22T01:59")
    scheduler.at("2026-11-22T02:00")
    last = scheduler.state.slots.last("backup")
    assert last is not None and last.job_id is not None
    runner.ended(last.job_id).result(30)
    scheduler.at("2026-11-22T02:01")
    assert scheduler.asked() == [("backup", "failed")]
    assert "status 7" in scheduler.state.jobs.get(last.job_id).reason


def test_a_service_that_stops_leaves_the_slot_to_the_next(scheduler: Scheduler) -> None:
    """A restart at 02:00 must not cost the night's backup."""
    stopping = Runner(scheduler.state, scheduler.log, dict(os.environ))
    stopping.stop()
    scheduler.at("2026-11-22T01:59")
    usual = scheduler.chore
    scheduler.chore = ScheduleChore(scheduler.plans, scheduler.state, stopping, scheduler.log)
    with pytest.raises(StorageError, match="stopping"):
        scheduler.at("2026-11-22T02:00")
    assert scheduler.asked() == []
    scheduler.chore = usual
    scheduler.at("2026-11-22T02:01")
    assert scheduler.asked() == [("backup", "queued")]


RACING = """
print("ready", flush=True)
for line in sys.stdin:
    text, begin = line.split()
    while time.time() < float(begin):
        pass
    scheduler.at(text)
    print("done", flush=True)
"""


def test_26_of_many_schedulers_started_at_one_instant_one_takes_each_slot(tmp_path: Path) -> None:
    number, rounds = (50, 20) if soaking() else (12, 5)
    watching = Scheduler(tmp_path)
    watching.at("2026-11-01T12:00")
    racers = [start(RACING, tmp_path) for _ in range(number)]
    try:
        answers = [racer.stdout for racer in racers if racer.stdout is not None]
        assert [answer.readline() for answer in answers] == ["ready\n"] * number
        for day in range(rounds):
            slot = datetime(2026, 11, 2, 2, tzinfo=UTC) + timedelta(days=day)
            begin = time.time() + 0.1
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(f"{slot:%Y-%m-%dT%H:%M} {begin}\n")
                racer.stdin.flush()
            assert [answer.readline() for answer in answers] == ["done\n"] * number
            assert watching.asked() == [("backup", "ok")] * day + [("backup", "queued")]
            last = watching.state.slots.last("backup")
            assert last is not None and (last.at, last.job_id) == (slot, watching.state.jobs.latest()[0].id)
            watching.work()
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    watching.state.close()


def test_slots_are_forgotten_but_never_the_last(tmp_path: Path) -> None:
    with State.open(tmp_path / "state.sqlite") as state:
        now = datetime(2026, 11, 22, 12, tzinfo=UTC)
        for days in (300, 200, 100):
            assert state.slots.claim("backup", now - timedelta(days=days))
            assert not state.slots.claim("backup", now - timedelta(days=days))
        state.slots.forget("backup", now)
        last = state.slots.last("backup")
        assert last is not None and last.at == now - timedelta(days=100)
        assert state.slots.last("backup", now - timedelta(days=150)) is None

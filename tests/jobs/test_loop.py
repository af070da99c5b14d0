"""The service's loop: chores when they are due, and nothing that ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from resurgam.catalog.state import State
from resurgam.clock import SystemClock
from resurgam.errors import StateError
from resurgam.jobs.loop import Loop
from resurgam.runlog import RunLog
from tests.jobs.schedulers import SetClock

MINUTE = timedelta(minutes=1)


class Noting:
    """A chore that notes when it ran, and does what a test wants."""

    name = "noting"

    def __init__(self, every: timedelta, act: Callable[[], None] = lambda: None) -> None:
        self.every, self.act = every, act
        self.runs: list[datetime] = []

    def run(self, now: datetime) -> datetime:
        self.runs.append(now)
        self.act()
        return now + self.every


def fail_with(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def state(tmp_path: Path, clock: SetClock) -> Iterator[State]:
    with State.open(tmp_path / "state.sqlite", clock=clock) as opened:
        yield opened


@pytest.fixture
def log(tmp_path: Path, clock: SetClock) -> RunLog:
    return RunLog(tmp_path / "backup.log", clock)


def test_chores_run_when_they_wish(clock: SetClock, state: State, log: RunLog) -> None:
    often, seldom = Noting(timedelta(seconds=10)), Noting(timedelta(hours=1))
    loop = Loop(clock, [often, seldom], state.signs, log)
    start = clock.now()
    while clock.now() < start + timedelta(hours=2):
        wait = loop.look()
        assert 0 < wait <= 30
        clock.sleep(wait)
    assert len(seldom.runs) == 2
    assert [run - start for run in often.runs[:3]] == [timedelta(seconds=s) for s in (0, 10, 20)]


def test_the_heartbeat_is_kept_once_a_minute(clock: SetClock, state: State, log: RunLog) -> None:
    loop, beats = Loop(clock, [Noting(timedelta(seconds=1))], state.signs, log), set()
    for _ in range(600):
        clock.sleep(loop.look())
        sign = state.signs.get("loop")
        assert sign is not None and clock.now() - sign.at <= timedelta(seconds=61)
        beats.add(sign.at)
    assert len(beats) == 10


@pytest.mark.parametrize("leap", [timedelta(hours=-1), timedelta(days=365), timedelta(days=-365)])
def test_a_clock_that_leaps_is_told_of_and_every_chore_looks_again(
    clock: SetClock, state: State, log: RunLog, leap: timedelta
) -> None:
    chore = Noting(timedelta(hours=5))
    loop = Loop(clock, [chore], state.signs, log)
    clock.sleep(loop.look())
    clock.time += leap
    clock.sleep(loop.look())
    assert len(chore.runs) == 2
    sign = state.signs.get("clock_jump")
    assert sign is not None
    assert sign.data["seconds"] == leap.total_seconds()
    assert datetime.fromisoformat(sign.data["at"]) == chore.runs[1]
    beat = state.signs.get("loop")
    assert beat is not None and beat.at == chore.runs[1], "the heartbeat goes on"
    loop.look()
    assert len(chore.runs) == 2
    assert log.path.read_text().count(f"The clock went {'ahead' if leap > timedelta(0) else 'back'} by") == 1


def test_small_corrections_are_not_told_of(clock: SetClock, state: State, log: RunLog) -> None:
    loop = Loop(clock, [], state.signs, log)
    for _ in range(10):
        clock.sleep(loop.look())
        clock.time -= timedelta(seconds=59)
    assert state.signs.get("clock_jump") is None


@pytest.mark.parametrize(
    "error", [StateError("The state is locked.", "Try again."), OSError("no space"), ValueError("a bug")]
)
def test_a_chore_that_fails_is_told_of_once_tried_again_and_ends_no_other(
    clock: SetClock, state: State, log: RunLog, error: Exception
) -> None:
    bad, good = Noting(MINUTE, fail_with(error)), Noting(MINUTE)
    loop = Loop(clock, [bad, good], state.signs, log)
    end = clock.now() + 5 * MINUTE
    while clock.now() < end:
        clock.sleep(loop.look())
    assert len(bad.runs) == len(good.runs) == 5
    assert log.path.read_text().count(" ERROR ") == 1
    assert str(error) in log.path.read_text()
    bad.act = lambda: None
    loop.look()
    assert "works again" in log.path.read_text()


def test_a_chore_that_wishes_for_the_past_does_not_make_it_spin(clock: SetClock, state: State, log: RunLog) -> None:
    loop = Loop(clock, [Noting(timedelta(days=-1))], state.signs, log)
    assert loop.look() >= 0.5


def test_a_state_that_can_not_be_written_ends_nothing(clock: SetClock, state: State, log: RunLog) -> None:
    chore = Noting(MINUTE)
    loop = Loop(clock, [chore], state.signs, log)
    state.close()
    loop.look()
    clock.time += timedelta(days=1)
    loop.look()
    assert len(chore.runs) == 2
    assert "heartbeat: " in log.path.read_text()


def test_it_starts_and_stops_at_once(tmp_path: Path) -> None:
    chore = Noting(timedelta(seconds=0.5))
    before = set(threading.enumerate())
    with State.open(tmp_path / "state.sqlite") as state:
        loop = Loop(SystemClock(), [chore], state.signs, RunLog(tmp_path / "backup.log", SystemClock()))
        loop.start()
        time.sleep(1.2)
        begun = time.monotonic()
        loop.stop()
        assert time.monotonic() - begun < 1
        assert 2 <= len(chore.runs) <= 4
        assert set(threading.enumerate()) <= before

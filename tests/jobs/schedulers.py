"""Schedulers for the tests: on a clock that a test sets, and with jobs that are queued and nobody works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from resurgam.catalog.jobs import Origin
from resurgam.catalog.state import State
from resurgam.jobs.schedule import ScheduleChore, plans_of
from resurgam.runlog import RunLog
from resurgam.settings.service_model import Schedule

NIGHTLY = Schedule(backup="0 2 * * *", timezone="UTC")


class SetClock:
    """The time that a test says; the monotonic clock goes on with `sleep` alone."""

    def __init__(self, text: str = "2026-11-22T12:00") -> None:
        self.time = datetime.fromisoformat(text).replace(tzinfo=UTC)
        self.passed = 0.0

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.passed += seconds


class Queue:
    """As a Runner, without the worker."""

    def __init__(self, state: State) -> None:
        self.state = state

    def submit(
        self,
        kind: str,
        target: str,
        request: Mapping[str, Any],
        *,
        origin: Origin,
        actor: str,
        wait: bool = False,
        also: Callable[[Any, int], None] = lambda connection, job_id: None,
    ) -> int:
        return self.state.jobs.submit(kind, target, origin=origin, actor=actor, request=request, wait=wait, also=also)


class Scheduler:
    """One scheduler with everything it needs, in a folder that others may share."""

    def __init__(self, folder: Path, schedule: Schedule = NIGHTLY, enabled: bool = True) -> None:
        self.clock = SetClock()
        self.state = State.open(folder / "state.sqlite", clock=self.clock)
        self.log = RunLog(folder / "backup.log", self.clock)
        self.plans = plans_of(schedule, "radiology", ZoneInfo(schedule.timezone))
        self.chore = ScheduleChore(self.plans, self.state, Queue(self.state), self.log, enabled=enabled)

    def at(self, text: str) -> datetime:
        """Look at that time (UTC); answers when it wants to look again."""
        self.clock.time = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return self.chore.run(self.clock.time)

    def asked(self) -> list[tuple[str, str]]:
        """The jobs so far, kind and state, oldest first."""
        return [(job.kind, job.state) for job in reversed(self.state.jobs.latest())]

    def work(self) -> None:
        """Do what is queued."""
        for job in self.state.jobs.unfinished():
            self.state.jobs.take_over(job.id)
            self.state.jobs.finish(job.id, "ok")

    @property
    def told(self) -> str:
        return self.log.path.read_text() if self.log.path.exists() else ""

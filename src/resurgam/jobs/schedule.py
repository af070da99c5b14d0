"""The chore that starts scheduled runs, and what is known of those to come.

docs/ordering.md, "The schedule's slots", says what must happen before what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from resurgam.catalog.jobs import Origin
from resurgam.catalog.slots import Slot, SlotTaken
from resurgam.catalog.state import State
from resurgam.errors import BusyError
from resurgam.jobs.zone import zone_name
from resurgam.policy.schedule import LATE, Plan
from resurgam.runlog import RunLog
from resurgam.settings.service_model import Schedule

# Another scheduler may have died, a clock may have been set: what is due is looked at anew this often.
_LOOK = timedelta(minutes=1)
_TICK = timedelta(microseconds=1)
# All backups, not one.
_REQUESTS: dict[str, dict[str, Any]] = {"verify": {"name": ""}}


class Submitting(Protocol):
    """What the schedule needs of a Runner."""

    def submit(
        self,
        kind: str,
        target: str,
        request: Mapping[str, Any],
        *,
        origin: Origin,
        actor: str,
        wait: bool = False,
        also: Callable[[Any, int], None] = ...,
    ) -> int: ...


def plans_of(schedule: Schedule, app: str, zone: ZoneInfo) -> tuple[Plan, ...]:
    """A plan for each task that is scheduled."""
    jitter, catch_up = timedelta(seconds=schedule.jitter), timedelta(seconds=schedule.catch_up)
    return tuple(
        Plan(task, cron, zone, app, jitter, catch_up, schedule.blackout) for task, cron in schedule.tasks.items()
    )


class ScheduleChore:
    """Starts what is due; many may work on one state, in as many processes. With `enabled` false it starts nothing."""

    name = "schedule"

    def __init__(
        self, plans: tuple[Plan, ...], state: State, runner: Submitting, log: RunLog, *, enabled: bool = True
    ) -> None:
        self._plans = plans if enabled else ()
        self._state, self._runner, self._log = state, runner, log
        self._never: set[str] = set()

    def run(self, now: datetime) -> datetime:
        """Start what is due; answers when to look again."""
        wishes = [now + _LOOK]
        for plan in self._plans:
            first = first_seen(plan, self._state, now)
            if first is None:
                self._state.signs.put(_sign(plan), _scheduled_as(plan))
                first = now
            last = self._state.slots.last(plan.task, now)
            slot, instead_of = self._due(plan, now, first, last)
            if slot is not None:
                self._start(plan, slot, now, instead_of)
            coming = plan.next_start(now, slot or _since(first, last))
            if coming is not None:
                wishes.append(coming.at)
            elif plan.task not in self._never:
                self._never.add(plan.task)
                self._log.error(f"schedule: the {plan.task} never runs: BACKUP_BLACKOUT leaves no time for it")
        return min(wishes)

    def _due(self, plan: Plan, now: datetime, first: datetime, last: Slot | None) -> tuple[datetime | None, int | None]:
        """The slot to run now, and the job that has it and came to nothing."""
        slot = plan.due(now, _since(first, last))
        if slot is None and last is not None and last.job_id is not None:
            again = plan.due(now, max(first, last.at - _TICK))
            if again == last.at and self._state.jobs.lost_in_line(last.job_id):
                return again, last.job_id
        return slot, None

    def _start(self, plan: Plan, slot: datetime, now: datetime, instead_of: int | None) -> None:
        slots, which = self._state.slots, f"the {plan.task} of {slot.astimezone(plan.zone).isoformat()}"
        slots.forget(plan.task, now)
        try:
            job = self._runner.submit(
                plan.task,
                "all" if plan.task == "verify" else plan.app,
                _REQUESTS.get(plan.task, {}),
                origin="schedule",
                actor="schedule",
                wait=True,
                also=slots.taking(plan.task, slot, instead_of=instead_of),
            )
        except SlotTaken:
            return
        except BusyError as error:
            if slots.claim(plan.task, slot):
                self._log.warning(f"schedule: {which} is skipped: {error.message}")
            return
        start = plan.start(slot)
        late = ", made up for" if start is not None and now - start.at > LATE else ""
        self._log.info(f"schedule: {which} is job {job}{late}", job=job)


def first_seen(plan: Plan, state: State, now: datetime) -> datetime | None:
    """Since when the task is scheduled as it is now: slots before that were nobody's to miss. None if it is new."""
    sign = state.signs.get(_sign(plan))
    # A mark that lies ahead was put by a clock that had gone wrong.
    return sign.at if sign is not None and sign.data == _scheduled_as(plan) and sign.at <= now else None


def upcoming(
    plans: tuple[Plan, ...], state: State | None, now: datetime, *, enabled: bool = True
) -> list[dict[str, Any]]:
    """The next run of each task, and what became of the last; without a state, as if nothing had run yet.

    `next_run` and `last_slot` are ISO 8601 with the zone's offset; of `next_run`, `jitter_seconds` are jitter. It is
    None where a blackout leaves no time for a run, and if the schedule is not `enabled`.
    """
    return [_coming(plan, state, now, enabled) for plan in plans]


def _coming(plan: Plan, state: State | None, now: datetime, enabled: bool) -> dict[str, Any]:
    last, outcome, first = None, None, now
    if state is not None:
        last, first = state.slots.last(plan.task, now), first_seen(plan, state, now) or now
        if last is not None:
            outcome = "skipped" if last.job_id is None else state.jobs.get(last.job_id).outcome
    coming = plan.next_start(now, _since(first, last)) if enabled else None
    return {
        "task": plan.task,
        "cron": plan.cron,
        "timezone": zone_name(plan.zone),
        "next_run": None if coming is None else coming.at.astimezone(plan.zone).isoformat(),
        "jitter_seconds": 0 if coming is None else int(coming.jitter.total_seconds()),
        "last_slot": None if last is None else last.at.astimezone(plan.zone).isoformat(),
        "last_job_id": None if last is None else last.job_id,
        "last_outcome": outcome,
    }


def _since(first: datetime, last: Slot | None) -> datetime:
    return first if last is None else max(first, last.at)


def _sign(plan: Plan) -> str:
    return f"schedule {plan.task}"


def _scheduled_as(plan: Plan) -> dict[str, str]:
    return {"cron": plan.cron, "timezone": zone_name(plan.zone)}

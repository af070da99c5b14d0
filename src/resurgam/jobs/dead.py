"""The chore that finds what dead processes left: jobs without an end, children without a parent, half-done work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from resurgam.catalog.jobs import Job
from resurgam.catalog.state import State
from resurgam.jobs.orphans import end_orphans
from resurgam.runlog import RunLog

_EVERY = timedelta(minutes=1)


class DeadJobs:
    """Settles jobs whose process died, tells of them once, and has their leftovers swept."""

    name = "dead jobs"

    def __init__(self, state: State, log: RunLog, died: Callable[[Job], None], sweep: Callable[[], bool]) -> None:
        """`died` tells people of a job; `sweep` removes what it left, False while somebody is at work."""
        self._state, self._log, self._died, self._sweep = state, log, died, sweep
        # What lies there from before us counts as one.
        self._deaths, self._swept = 1, 0

    def seen(self, job: Job) -> None:
        """Tell of a job whose worker the runner saw dying; the next look sweeps."""
        self._deaths += 1
        self._died(job)

    def run(self, now: datetime) -> datetime:
        """One look; the next is due in a minute. The first sweeps in any case."""
        self._deaths += see_to_the_dead(self._state, self._log, self._died)
        deaths = self._deaths
        if self._swept < deaths and self._sweep():
            self._swept = deaths
        self._state.jobs.forget_lines()
        return now + _EVERY


def see_to_the_dead(state: State, log: RunLog, died: Callable[[Job], None]) -> int:
    """Settle the jobs whose process died, end what they left running, and tell of each once; how many there were.

    Whoever looks at jobs may have settled them: so what is logged and told is what nobody has told of yet.
    """
    state.jobs.settle_dead()
    dead = [job for job in state.jobs.unalerted() if state.jobs.mark_alerted(job.id)]
    for job in dead:
        log.error(f"{job.kind} {job.target}: failed: the process that ran it died", job=job.id, outcome="failed")
        ended = end_orphans(state.path, job.id)
        if ended:
            log.warning(f"{ended} processes that job {job.id} had left behind were ended.", job=job.id)
        died(job)
    return len(dead)

"""What lives while the API does: the open service, the runner of jobs, and the loop of chores.

It is started by the application's lifespan, or, where a host application has replaced that, by the first request.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from resurgam.api.auth import Authenticator
from resurgam.catalog.state import State
from resurgam.errors import ResurgamError, StorageError
from resurgam.jobs.announce import HealthWatch
from resurgam.jobs.bootstrap import BootstrapChore
from resurgam.jobs.dead import DeadJobs
from resurgam.jobs.loop import Chore, Loop
from resurgam.jobs.runner import Runner
from resurgam.jobs.schedule import ScheduleChore
from resurgam.operations.access import ensure_bootstrap
from resurgam.operations.listing import Listing
from resurgam.runlog import RunLog
from resurgam.service import Service

T = TypeVar("T")
# What reads archives, or a folder that may hang, has threads of its own, so that it keeps none from lists and health.
_SLOW_THREADS = 8
_SLOW: RunVar[CapacityLimiter] = RunVar("resurgam_slow")


class Runtime:
    """One application's service as the API has it. `tokens`: callers are known by our own tokens, so one must exist."""

    def __init__(self, service: Service, environ: Mapping[str, str], *, tokens: bool = True) -> None:
        self.service = service
        self._environ, self._tokens = environ, tokens
        self._lock = threading.Lock()
        self._started = self._stopping = False
        self._runner: Runner | None = None
        self._loop: Loop | None = None
        self._authenticator: Authenticator | None = None

    @property
    def log(self) -> RunLog:
        return self.service.log

    @property
    def state(self) -> State:
        return self.service.state

    @property
    def listing(self) -> Listing:
        return self.service.listing

    @property
    def runner(self) -> Runner:
        assert self._runner is not None  # every route starts us first
        return self._runner

    @property
    def authenticator(self) -> Authenticator:
        assert self._authenticator is not None
        return self._authenticator

    @property
    def started(self) -> bool:
        return self._started

    def start(self) -> None:
        """Open everything and begin; again is harmless. ResurgamError where it can't be; it can be tried again."""
        with self._lock:
            if self._started:
                return
            if self._stopping:
                raise StorageError("The service is stopping; nothing was done.", "Ask again when it is back.")
            service = self.service
            service.folder.prepare()
            state = service.state
            if self._tokens:
                made = ensure_bootstrap(state, service.folder.path)
                if made is not None:
                    self.log.warning(f"There was no token yet: one for an admin, for a day, is in {made}.")
            # Opened here by one thread, since cached_property is not guarded against two. What is only made of the
            # settings may be made twice, and brings the loader and psycopg with it.
            service.listing.watch_remote()
            _ = service.folders, service.announcer
            dead = DeadJobs(state, service.log, service.announcer.died, service.sweep)
            self._runner = Runner(state, service.log, self._environ, died=dead.seen)
            self._authenticator = Authenticator(state.tokens, service.settings.jwt, service.log, service.clock)
            self._loop = Loop(service.clock, self._chores(dead, self._runner), state.signs, service.log)
            self._loop.start()
            self._started = True

    def stop(self) -> None:
        """End the loop and the jobs, as BACKUP_ON_SHUTDOWN says, and close what is open."""
        self.end_jobs()
        with self._lock:
            if self._loop is not None:
                self._loop.stop()
            self._started = False
            self._runner = self._loop = None
            self.service.close()

    def end_jobs(self) -> None:
        """Take no more jobs, and end those under way or wait for them; whoever waits for one is answered."""
        with self._lock:
            self._stopping = True
            runner = self._runner
        if runner is not None:
            runner.stop(finish=self.service.settings.on_shutdown == "finish")

    @contextlib.asynccontextmanager
    async def running(self, *, strict: bool) -> AsyncIterator[None]:
        """A lifespan. Not `strict`: what keeps us from starting must not keep a host application from it."""
        self._stopping = False
        try:
            await to_thread.run_sync(self.start)
        except ResurgamError as error:
            if strict:
                raise
            self.log.error(f"The backups' API could not start yet: {error.message} {error.hint}")
        try:
            yield
        finally:
            await to_thread.run_sync(self.stop)

    async def ready(self) -> None:
        """Start where no lifespan has. ResurgamError if that fails."""
        if not self._started:
            await to_thread.run_sync(self.start)

    def unready(self) -> tuple[str, ...]:
        """Why requests can't be answered as they should; nothing if they can."""
        folder = self.service.settings.backup_dir
        if not self._started:
            return ("The service has not started.",)
        loop, reasons = self._loop, []
        if not folder.is_dir():
            reasons.append("BACKUP_DIR is not there.")
        if loop is None or not loop.alive:
            reasons.append("The loop of the schedule does not run.")
        try:
            self.state.jobs.latest(1)
        except ResurgamError:
            reasons.append("The state can not be read.")
        return tuple(reasons)

    def _chores(self, dead: DeadJobs, runner: Runner) -> list[Chore]:
        service = self.service
        return [
            dead,
            BootstrapChore(service.state, service.folder.path),
            HealthWatch(service, service.announcer),
            service.keeping(),
            ScheduleChore(service.plans, service.state, runner, service.log, enabled=service.settings.backup_enabled),
        ]


async def slowly(work: Callable[[], T]) -> T:
    """Do what may take long or hang in a thread of those that are kept for it."""
    try:
        limiter = _SLOW.get()
    except LookupError:
        limiter = CapacityLimiter(_SLOW_THREADS)
        _SLOW.set(limiter)
    return await to_thread.run_sync(work, limiter=limiter)

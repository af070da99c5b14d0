"""The job boundary: the one place that catches everything, so that no job ends without a record of how.

What it catches it records and raises again; nothing is swallowed here. Around the operation it keeps the job's row:
begun, how far, asked to be cancelled, ended; it writes the log's lines, and tells the announcer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from resurgam.errors import BusyError, DatabaseError, ResurgamError, StateError, StorageError
from resurgam.jobs.ended import Ended
from resurgam.jobs.followed import Followed
from resurgam.operations.progress import Progress
from resurgam.runlog import RunLog
from resurgam.stopping import UNDONE, Became, note_became, undisturbed, what_became

if TYPE_CHECKING:
    from resurgam.catalog.jobs import Job, Origin, Outcome
    from resurgam.catalog.state import State

Result = TypeVar("Result")


class Announcer(Protocol):
    """Who tells people. Nothing that fails in it comes out."""

    def started(self, kind: str, target: str) -> None:
        """A job begins."""

    def ended(self, job: Job) -> None:
        """A job has ended; its row says how."""

    def died(self, job: Job) -> None:
        """A job's process had died; its row says so now."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asked for a job, and from where. `job_id`: the row that a worker took over, else one is made.

    `cancel` unwinds the main thread as Ctrl-C does; without it a job can't be cancelled.
    """

    origin: Origin = "cli"
    actor: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    job_id: int | None = None
    cancel: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Boundary:
    """What every job runs within."""

    state: State
    log: RunLog
    asked: Asked = field(default_factory=Asked)
    announcer: Announcer | None = None

    def run(
        self,
        kind: str,
        target: str,
        operation: Callable[[Progress], Result],
        ended: Callable[[Result], Ended],
        progress: Progress,
    ) -> Result:
        """Run an operation, and keep its history and log.

        Raises ResurgamError for whatever the system or the server did; anything else (a bug, an interrupt) passes
        through as it is, recorded as well.
        """
        asked, jobs = self.asked, self.state.jobs
        note_became(UNDONE)
        job = asked.job_id or self._begin(kind, target)
        self.log.info(f"{kind} {target}: started", job=job, origin=asked.origin, actor=asked.actor)
        try:
            if self.announcer is not None:
                self.announcer.started(kind, target)
            with Followed(progress, jobs, job, self.log, asked.cancel) as followed:
                result = operation(followed)
        except BaseException as raised:
            error = as_resurgam_error(raised)
            try:
                how, reason = self._how_it_failed(job, error, raised)
                self._tell(kind, target, job, how, reason, error)
                jobs.finish(job, how, reason, _details(error))
                self._announce(job)
            except StateError as untold:
                # Often for the same reason, a full disk: it must not hide what the job itself failed for.
                self.log.error(f"{kind} {target}: this could not be kept in the history: {untold.message}", job=job)
                self._announce_unkept(kind, target, "failed", _reason(error or raised), _details(error))
            if error is None or error is raised:
                raise
            raise error from raised
        if not what_became().complete:
            note_became(Became(f"the {kind} of {target} was complete by then", complete=True))
        end = ended(result)
        with undisturbed():
            self._keep(kind, target, job, end)
        self._announce(job)
        return result

    def _keep(self, kind: str, target: str, job: int, end: Ended) -> None:
        reason = "" if end.outcome == "ok" else end.line
        try:
            self.state.jobs.finish(job, end.outcome, reason, {"result": dict(end.result)})
        except StateError as untold:
            line = f"{end.line}; this could not be kept: {untold.message}"
            self.log.error(f"{kind} {target}: {line}", job=job)
            self._announce_unkept(kind, target, "degraded", line, _details(untold))
            raise
        self._tell(kind, target, job, end.outcome, end.line, None)

    def _begin(self, kind: str, target: str) -> int:
        asked = self.asked
        try:
            return self.state.jobs.begin(kind, target, origin=asked.origin, actor=asked.actor, request=asked.request)
        except StateError as error:
            self.log.error(f"{kind} {target}: failed, it could not be begun: {error.message}", code=error.code)
            self._announce_unkept(kind, target, "failed", error.message, _details(error))
            raise

    def _how_it_failed(self, job: int, error: ResurgamError | None, raised: BaseException) -> tuple[Outcome, str]:
        if isinstance(error, BusyError):
            return "refused", error.message
        became, cancelled = what_became(), not isinstance(raised, Exception) and self._was_cancelled(job)
        if isinstance(raised, KeyboardInterrupt) and became.complete:
            # The signal came just after the commit, and kept it from what is done after that only.
            how = "cancelled on request" if cancelled else str(raised) or "interrupted"
            return "degraded", f"It was {how}, too late: {became.words}.{_besides(raised)}"
        if cancelled:
            return "cancelled", f"It was cancelled on request; {became.words}.{_besides(raised)}"
        return "failed", _reason(error or raised)

    def _was_cancelled(self, job: int) -> bool:
        try:
            return self.state.jobs.get(job).cancel_requested
        except StateError:
            return False

    def _tell(self, kind: str, target: str, job: int, how: Outcome, line: str, error: ResurgamError | None) -> None:
        level = {"ok": "INFO", "cancelled": "WARNING"}.get(how, "ERROR")
        code = None if error is None else error.code
        self.log.append(level, f"{kind} {target}: {how}: {line}", job=job, outcome=how, code=code)

    def _announce(self, job: int) -> None:
        if self.announcer is not None:
            self.announcer.ended(self.state.jobs.get(job))

    def _announce_unkept(self, kind: str, target: str, how: Outcome, reason: str, details: Mapping[str, Any]) -> None:
        """Of what no history has people hear all the same; of a worker's job by its runner."""
        if self.announcer is not None and self.asked.job_id is None:
            from resurgam.catalog.jobs import unkept

            self.announcer.ended(unkept(kind, target, how, reason, self.log.clock.now(), details))


def as_resurgam_error(error: BaseException) -> ResurgamError | None:
    """What the operating system and the server say, as an error of ours; None if it is neither."""
    import psycopg  # only where something failed: it takes longer to import than a list takes

    if isinstance(error, ResurgamError):
        return error
    if isinstance(error, psycopg.Error):
        said = " ".join(str(error.diag.message_primary or error).split())
        return DatabaseError(
            f"The database server ended the work: {said}.{_besides(error)}",
            "See the server's log; `resurgam doctor` tests the connection.",
        )
    if isinstance(error, OSError):
        where = f" ({error.filename})" if isinstance(error.filename, str) else ""
        return StorageError(
            f"The system refused: {error.strerror or error}{where}.{_besides(error)}",
            "`resurgam doctor` looks for causes.",
        )
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, ResurgamError):
        return error.message
    if isinstance(error, KeyboardInterrupt):  # ours say by which signal
        return f"It was {error or 'interrupted'}; {what_became().words}.{_besides(error)}"
    return f"{type(error).__name__}: {error}".rstrip(": ") + _besides(error)


def _besides(error: BaseException) -> str:
    """What failed while it unwound: a hook that was to let the application go on."""
    return "".join(f" Besides: {note}" for note in getattr(error, "__notes__", ()))


def _details(error: ResurgamError | None) -> dict[str, Any]:
    return {} if error is None else {"code": error.code, "hint": error.hint}

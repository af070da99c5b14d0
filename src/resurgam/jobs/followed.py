"""How far a job is, for everyone: passed on to the face that runs it, and once a second into its row."""

from __future__ import annotations

import threading
from collections.abc import Callable

from resurgam.catalog.jobs import Jobs
from resurgam.errors import StateError
from resurgam.operations.progress import Progress
from resurgam.runlog import RunLog

_SECONDS = 1.0


class Followed:
    """A Progress that keeps the job's row up to date from a thread of its own while the block lasts.

    When the row says that somebody wants the job cancelled, `cancel` is called once. A row that can't be kept up to
    date fails no operation; its end will be recorded, or told.
    """

    def __init__(self, face: Progress, jobs: Jobs, job_id: int, log: RunLog, cancel: Callable[[], None] | None) -> None:
        self._face, self._jobs, self._job, self._log, self._cancel = face, jobs, job_id, log, cancel
        self._phase, self._done = "", 0
        self._total: int | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="resurgam-progress", daemon=True)

    def phase(self, text: str, total: int | None = None) -> None:
        """A new phase begins."""
        with self._lock:
            self._phase, self._done, self._total = text, 0, total
        try:
            self._jobs.say(self._job, "INFO", text)
        except StateError as error:
            self._warn(error)
        self._face.phase(text, total)

    def advance(self, count: int) -> None:
        """So many bytes more are done."""
        with self._lock:
            self._done += count
        self._face.advance(count)

    def __enter__(self) -> Followed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._keep()  # how far it came stands there for good

    def _follow(self) -> None:
        while not self._over.wait(_SECONDS):
            cancelled = self._keep()
            if cancelled is None:
                return
            if cancelled and self._cancel is not None:
                if not self._over.is_set():  # what has ended well is not cancelled
                    self._cancel()
                return

    def _keep(self) -> bool | None:
        """Write how far it is; whether it is to be cancelled, None if the row can't be written."""
        with self._lock:
            phase, done, total = self._phase, self._done, self._total
        try:
            return self._jobs.progress(self._job, phase, done, total)
        except StateError as error:
            self._warn(error)
            return None

    def _warn(self, error: StateError) -> None:
        self._log.warning(f"The progress of job {self._job} could not be kept: {error.message}", job=self._job)

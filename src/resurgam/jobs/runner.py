"""Runs jobs in the background, each in a process of its own (docs/adr/0012-jobs-run-as-processes.md).

Rules:
- The worker's environment is `settings.inherited`, which holds no secret; the whole environment goes to it by stdin.
- It is cancelled by SIGTERM, which unwinds it as Ctrl-C does. Only one that does not end in time is killed.
- A worker that ended without finishing its job's row is told of in that row, as soon as that can be written: a row that
  stayed open would keep every later job from its turn.
- The death of this process ends no worker: a backup outlives a restart of the service, and is seen by the next one.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from resurgam.catalog.jobs import Job, Origin, Outcome
from resurgam.catalog.state import State
from resurgam.errors import StateError, StorageError
from resurgam.jobs.orphans import JOB_VARIABLE, end_orphans, job_mark
from resurgam.runlog import RunLog
from resurgam.settings import inherited

_CANCEL_SECONDS = 8.0
_KILLED_SECONDS = 2.0
_AGAIN_SECONDS = 10.0
# How a worker ends that was told to: unwound, or before it could.
_TOLD_TO_END = (128 + signal.SIGTERM, -signal.SIGTERM)
_KEPT_LINES = 20


class Runner:
    """Starts workers and waits for them. Any thread may use it."""

    def __init__(
        self,
        state: State,
        log: RunLog,
        environ: Mapping[str, str],
        *,
        died: Callable[[Job], None] = lambda job: None,
        command: tuple[str, ...] = (sys.executable, "-m", "resurgam.worker"),
    ) -> None:
        """`died` is called with a job whose worker ended without finishing it."""
        self._state, self._log, self._environ, self._died, self._command = state, log, environ, died, command
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._ended: dict[int, Future[None]] = {}
        self._lock = threading.Lock()
        self._submitting = threading.Lock()
        self._stopping = threading.Event()

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
        """Make the job and start its worker; the job's id. BusyError where another excludes it (`Jobs.submit`).

        StorageError where we are stopping, and then nothing was made; or, with the job marked as failed and told of,
        where its worker could not be started.
        """
        with self._submitting:
            if self._stopping.is_set():
                raise StorageError("The service is stopping; nothing was done.", "Ask again when it is back.")
            job = self._state.jobs.submit(
                kind, target, origin=origin, actor=actor, request={**request, "wait": wait}, wait=wait, also=also
            )
            problem = self._start(job)
        if problem:
            self._lost(job, problem)
            raise StorageError(problem, "`resurgam doctor` looks for causes.")
        return job

    def _start(self, job: int) -> str:
        """Start the worker of a queued job; why that is not possible, "" if it was."""
        ended: Future[None] = Future()
        mark = {JOB_VARIABLE: job_mark(self._state.path, job)}
        with self._lock:
            try:
                worker = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env={**inherited(self._environ), **mark},
                    # Ctrl-C on the service's terminal is the service's to answer.
                    start_new_session=True,
                )
            except OSError as error:
                return f"The worker of job {job} could not be started ({error.strerror or error})."
            self._workers[job], self._ended[job] = worker, ended
        threading.Thread(target=self._attend, args=(job, worker, mark, ended), name=f"job-{job}", daemon=True).start()
        return ""

    def ended(self, job: int) -> Future[None]:
        """Resolved when the worker of a job of ours has ended; at once for any other job."""
        with self._lock:
            future = self._ended.get(job)
        if future is None:
            future = Future()
            future.set_result(None)
        return future

    def cancel(self, job: int) -> Job:
        """Ask for a job to be cancelled; a worker of ours hears of it at once, others within a second or two.

        NotFoundError if there is no such job.
        """
        asked = self._state.jobs.request_cancel(job)
        with self._lock:
            worker = self._workers.get(job)
        if worker is not None and asked.outcome is None:
            worker.send_signal(signal.SIGTERM)
        return asked

    def stop(self, *, finish: bool = False) -> None:
        """Take no more jobs, and wait for ours; unless `finish`, they are cancelled and have 8 s to unwind."""
        with self._submitting:  # whoever is at it has his worker
            self._stopping.set()
        with self._lock:
            workers, ended = dict(self._workers), dict(self._ended)
        for job, worker in workers.items():
            if not finish:
                self._log.warning(f"Job {job} is ended because the service stops.", job=job)
                worker.send_signal(signal.SIGTERM)
        late = wait(ended.values(), None if finish else _CANCEL_SECONDS).not_done
        for job, future in ended.items():
            if future in late:
                workers[job].kill()
        wait(late, _KILLED_SECONDS)

    def _attend(self, job: int, worker: subprocess.Popen[bytes], mark: Mapping[str, str], ended: Future[None]) -> None:
        """Hand the worker its environment, pass on what it says, and see how it ends."""
        said: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            if worker.stdin is not None:
                try:
                    told = {"job": job, "environ": {**self._environ, **mark}}
                    worker.stdin.write(json.dumps(told).encode())
                    worker.stdin.close()
                except BrokenPipeError:
                    pass  # it died at once; its exit status says how
            for raw in worker.stderr or ():
                line = raw.decode("utf-8", "backslashreplace").rstrip()
                said.append(line)
            status = worker.wait()
            settled = self._settle(job, status, said)
        finally:
            with self._lock:
                self._workers.pop(job, None)
                self._ended.pop(job, None)
            ended.set_result(None)
        while not settled and not self._stopping.wait(_AGAIN_SECONDS):
            settled = self._settle(job, status, said)

    def _settle(self, job: int, status: int, said: deque[str]) -> bool:
        """See to it that the job's row says how it ended. False where that can't be written now."""
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        last = f": {said[-1].rstrip('.')}" if said else ""
        reason = f"Its process {how} before the job was done{last}."
        try:
            job_row = self._state.jobs.get(job)
            if job_row.outcome is not None:
                return True
            if status in _TOLD_TO_END and job_row.cancel_requested:
                self._lost(job, "It was cancelled on request; what was under way was undone.", "cancelled")
            else:
                self._lost(job, reason)
        except StateError as error:
            self._log.error(f"The end of job {job} could not be kept: {reason} {error.message}", job=job)
            return False
        return True

    def _lost(self, job: int, reason: str, outcome: Outcome = "failed") -> None:
        """Note and tell how a job ended whose worker did not do so."""
        if not self._state.jobs.finish_lost(job, reason, outcome):
            return
        self._log.append("WARNING" if outcome == "cancelled" else "ERROR", f"Job {job} {outcome}: {reason}", job=job)
        end_orphans(self._state.path, job)
        if self._state.jobs.mark_alerted(job):
            self._died(self._state.jobs.get(job))

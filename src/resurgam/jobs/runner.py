"""Runs jobs in the background, each in a process of its own (docs/adr/0012-jobs-run-as-processes.md).

Rules:
- The worker's environment is `settings.inherited`, which holds no secret; the whole environment goes to it by stdin.
- It is cancelled by SIGTERM, which unwinds it as Ctrl-C does. Only one that does not end in time is killed.
- A worker that ended without finishing its job's row is told of in that row.
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
from concurrent.futures import Future
from typing import Any

from resurgam.catalog.jobs import Job, Origin
from resurgam.catalog.state import State
from resurgam.errors import StateError, StorageError
from resurgam.jobs.orphans import JOB_VARIABLE, end_orphans, job_mark
from resurgam.runlog import RunLog
from resurgam.settings import inherited

_CANCEL_SECONDS = 8.0
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
        self._stopping = False

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
        """Make the job and start its worker; the job's id. BusyError where another excludes it (`Jobs.submit`)."""
        job = self._state.jobs.submit(
            kind, target, origin=origin, actor=actor, request={**request, "wait": wait}, wait=wait, also=also
        )
        self.start(job)
        return job

    def start(self, job: int) -> None:
        """Start the worker of a queued job. StorageError, with the job marked as failed, if that is not possible."""
        ended: Future[None] = Future()
        mark = {JOB_VARIABLE: job_mark(self._state.path, job)}
        with self._lock:
            try:
                if self._stopping:
                    raise OSError("the service is stopping")
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
                reason = f"The worker of job {job} could not be started ({error.strerror or error})."
                self._state.jobs.finish_lost(job, reason)
                raise StorageError(reason, "`resurgam doctor` looks for causes.") from None
            self._workers[job], self._ended[job] = worker, ended
        threading.Thread(target=self._attend, args=(job, worker, mark, ended), name=f"job-{job}", daemon=True).start()

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
        if worker is not None and asked.state == "running":
            worker.send_signal(signal.SIGTERM)
        return asked

    def stop(self, *, finish: bool = False) -> None:
        """Take no more jobs, and wait for ours; unless `finish`, they are cancelled and have 8 s to unwind."""
        with self._lock:
            self._stopping = True
            workers, ended = dict(self._workers), dict(self._ended)
        for job, worker in workers.items():
            if not finish:
                self._log.warning(f"Job {job} is ended because the service stops.", job=job)
                worker.send_signal(signal.SIGTERM)
        for job, future in ended.items():
            try:
                future.result(None if finish else _CANCEL_SECONDS)
            except TimeoutError:
                workers[job].kill()
                future.result(2)

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
            self._settle(job, status, said)
        except StateError as error:
            self._log.error(f"The end of job {job} could not be kept: {error.message}", job=job)
        finally:
            with self._lock:
                self._workers.pop(job, None)
                self._ended.pop(job, None)
            ended.set_result(None)

    def _settle(self, job: int, status: int, said: deque[str]) -> None:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        tail = f": {said[-1]}" if said else ""
        if not self._state.jobs.finish_lost(job, f"Its process {how} before the job was done{tail}."):
            return
        self._log.error(f"Job {job} failed: its process {how}{tail}.", job=job)
        end_orphans(self._state.path, job)
        if self._state.jobs.mark_alerted(job):
            self._died(self._state.jobs.get(job))

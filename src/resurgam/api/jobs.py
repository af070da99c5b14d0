"""/api/jobs: what runs, how far it is, what came of it; and the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request

from resurgam.api.access import require_role
from resurgam.api.call import caller_of, runtime_of
from resurgam.api.errors import Answer
from resurgam.api.routing import Operation, Routes
from resurgam.api.schemas_jobs import AuditPage, Cancelled, JobPage, JobShown
from resurgam.catalog.jobs import Job

_LARGEST_ID = (1 << 63) - 1  # SQLite's largest integer
JobId = Annotated[int, Path(ge=1, le=_LARGEST_ID, description="The job's number.", examples=[12])]
PageLimit = Annotated[int, Query(ge=1, le=500, description="How many at most.")]
Cursor = Annotated[int | None, Query(ge=1, le=_LARGEST_ID, description="`next_cursor` of the page before this one.")]
# What an operator may start, an operator may end.
_OPERATORS = frozenset({"backup", "verify"})
_TAIL = 100


def list_jobs(
    request: Request,
    limit: PageLimit = 50,
    cursor: Cursor = None,
    kind: Annotated[
        str | None, Query(max_length=20, pattern="^[a-z]+$", description="Only of this kind: backup, verify, …")
    ] = None,
) -> Answer:
    """Jobs, the newest first."""
    jobs = runtime_of(request).state.jobs.latest(limit + 1, kind=kind, before=cursor)
    following = str(jobs[limit - 1].id) if len(jobs) > limit else None
    return Answer({"jobs": [_summary(job) for job in jobs[:limit]], "next_cursor": following})


def show_job(request: Request, job_id: JobId) -> Answer:
    """One job: how far it is, the tail of its log, and what came of it."""
    jobs = runtime_of(request).state.jobs
    job = jobs.get(job_id)
    log = [{"at": line.at.isoformat(), "level": line.level, "text": line.text} for line in jobs.lines(job_id, _TAIL)]
    details = job.details
    return Answer(
        {
            **_summary(job),
            "request": job.request,
            "result": details.get("result"),
            "code": details.get("code"),
            "hint": details.get("hint"),
            "log": log,
        }
    )


def cancel_job(request: Request, job_id: JobId) -> Answer:
    """End a job: its processes end, and what it had begun is undone. Restores, prunes and deletions need an admin."""
    runtime = runtime_of(request)
    if runtime.state.jobs.get(job_id).kind not in _OPERATORS:
        require_role(caller_of(request), "admin")
    job = runtime.runner.cancel(job_id)
    what = "is being cancelled" if job.outcome is None else "had ended already"
    return Answer({"message": f"Job {job_id} {what}", "job_id": job_id, "state": job.state})


def list_audit(request: Request, limit: PageLimit = 100, cursor: Cursor = None) -> Answer:
    """The audit log, the newest entry first."""
    entries = runtime_of(request).state.audit.page(limit + 1, before=cursor)
    following = str(entries[limit - 1].id) if len(entries) > limit else None
    return Answer({"entries": [entry.to_json() for entry in entries[:limit]], "next_cursor": following})


def add_jobs(routes: Routes) -> None:
    """Jobs, and the audit log, whose path stands beside those of backups."""
    for method, path, endpoint, operation in (
        ("GET", "/api/jobs", list_jobs, Operation("listJobs", "jobs", "viewer", JobPage, (422,))),
        ("GET", "/api/jobs/{job_id}", show_job, Operation("getJob", "jobs", "viewer", JobShown, (404, 422))),
        (
            "POST",
            "/api/jobs/{job_id}/cancel",
            cancel_job,
            Operation("cancelJob", "jobs", "operator", Cancelled, (404, 422), "cancel"),
        ),
        ("GET", "/api/backups/audit", list_audit, Operation("listAudit", "audit", "admin", AuditPage, (422,))),
    ):
        routes.add(method, path, endpoint, operation)


def _summary(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "kind": job.kind,
        "target": job.target,
        "state": job.state,
        "phase": job.phase,
        "bytes_done": job.done,
        "bytes_total": job.total,
        "percent": _percent(job),
        "origin": job.origin,
        "actor": job.actor,
        "queued_at": job.started_at.isoformat(),
        "started_at": _moment(job.begun_at),
        "finished_at": _moment(job.finished_at),
        "reason": job.reason,
        "cancel_requested": job.cancel_requested,
    }


def _percent(job: Job) -> float | None:
    if job.state in ("ok", "degraded"):
        return 100.0
    return round(min(100.0, 100 * job.done / job.total), 1) if job.total else None


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()

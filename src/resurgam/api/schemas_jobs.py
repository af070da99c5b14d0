"""What comes out about jobs, the schedule, the audit log and health. Moments are ISO 8601 with their zone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from resurgam.api.schemas import example

_JOB = {
    "id": 12,
    "kind": "backup",
    "target": "radiology",
    "state": "running",
    "phase": "Dumping the database",
    "bytes_done": 12582912,
    "bytes_total": 41943040,
    "percent": 30.0,
    "origin": "api",
    "actor": "token:ci",
    "queued_at": "2025-01-04T14:30:21.840000+00:00",
    "started_at": "2025-01-04T14:30:22.120000+00:00",
    "finished_at": None,
    "reason": "",
    "cancel_requested": False,
}


class JobSummary(BaseModel):
    """A job in a list. Bytes and percent are of its present phase."""

    model_config = example(**_JOB)

    id: int
    kind: str
    target: str
    state: Literal["queued", "running", "ok", "failed", "degraded", "refused", "cancelled"]
    phase: str
    bytes_done: int
    bytes_total: int | None
    percent: float | None
    origin: Literal["cli", "api", "schedule", "python"]
    actor: str
    queued_at: str
    started_at: str | None
    finished_at: str | None
    reason: str = Field(description="Why it did not end well.")
    cancel_requested: bool


class JobLineShown(BaseModel):
    """A line of a job's log."""

    at: str
    level: str
    text: str


class JobShown(JobSummary):
    """One job, with the tail of its log, and what came of it."""

    model_config = example(
        **_JOB,
        request={"wait": False},
        result=None,
        code=None,
        hint=None,
        log=[{"at": "2025-01-04T14:30:22.130000+00:00", "level": "INFO", "text": "Dumping the database"}],
    )

    request: dict[str, Any]
    result: dict[str, Any] | None = Field(description="What the operation answered.")
    code: str | None = Field(description="The error's code, of one that failed.")
    hint: str | None
    log: list[JobLineShown]


class JobPage(BaseModel):
    """Jobs, newest first."""

    model_config = example(jobs=[_JOB], next_cursor="12")

    jobs: list[JobSummary]
    next_cursor: str | None


class Cancelled(BaseModel):
    """A job that ends as soon as it can; one that had ended stays as it is."""

    model_config = example(message="Job 12 is being cancelled", job_id=12, state="running")

    message: str
    job_id: int
    state: str


class Task(BaseModel):
    """One task of the schedule. `last_outcome` is null while its job is under way."""

    task: str
    cron: str
    timezone: str
    next_run: str | None
    jitter_seconds: int
    last_slot: str | None
    last_job_id: int | None
    last_outcome: str | None


class ScheduleShown(BaseModel):
    """The built-in schedule; off unless BACKUP_SCHEDULE is set."""

    model_config = example(
        enabled=True,
        tasks=[
            {
                "task": "backup",
                "cron": "0 2 * * *",
                "timezone": "Europe/Berlin",
                "next_run": "2025-01-05T02:00:00+01:00",
                "jitter_seconds": 0,
                "last_slot": "2025-01-04T02:00:00+01:00",
                "last_job_id": 11,
                "last_outcome": "ok",
            }
        ],
    )

    enabled: bool
    tasks: list[Task]


class AuditShown(BaseModel):
    """An entry of the audit log; its digest covers it and the one before it."""

    id: int
    at: str
    actor: str
    role: str
    origin: str
    action: str
    target: str
    outcome: str
    details: dict[str, Any]
    digest: str


class AuditPage(BaseModel):
    """Entries of the audit log, newest first."""

    model_config = example(
        entries=[
            {
                "id": 7,
                "at": "2025-01-04T14:30:21.830000+00:00",
                "actor": "token:ci",
                "role": "operator",
                "origin": "api",
                "action": "backup",
                "target": "",
                "outcome": "accepted",
                "details": {"address": "127.0.0.1"},
                "digest": "5f0c…",
            }
        ],
        next_cursor=None,
    )

    entries: list[AuditShown]
    next_cursor: str | None


class MostRecent(BaseModel):
    """The newest backup that can be restored."""

    backup_name: str
    datetime: str
    size_mb: float


class ReasonShown(BaseModel):
    """Something wrong, and what to do about it."""

    code: str
    severity: Literal["warning", "critical"]
    message: str
    hint: str


class TrendShown(BaseModel):
    """Where it goes; null where there are too few backups to say."""

    growth_percent_30_days: float | None
    average_size_mb_7_days: float | None
    average_size_mb_30_days: float | None
    size_change_mb_per_day: float | None
    projected_days_until_full: float | None
    success_rate_30_days: float | None
    runs_30_days: int


class DiskShown(BaseModel):
    """BACKUP_DIR's disk."""

    free_bytes: int
    total_bytes: int


class LastRun(BaseModel):
    """The last backup run, however it ended."""

    job_id: int
    outcome: str
    started_at: str | None
    finished_at: str | None
    duration_seconds: float
    reason: str


class KeptShown(BaseModel):
    """What a restore or an undo kept, for `undo` to bring back; `until` it is removed, null for never."""

    model_config = example(
        what="database",
        place="radiology_db_previous_20250104150000_3fa9c1",
        size_bytes=39950745,
        until="2025-01-07T15:00:12.000+00:00",
        problem="",
    )

    what: Literal["database", "files"]
    place: str
    size_bytes: int | None
    until: str | None
    problem: str


class RepositoryShown(BaseModel):
    """The repository: bytes of its packs, and of those that the next prune removes; its recovery kit."""

    url: str
    size_bytes: int
    waiting_bytes: int
    free_bytes: int | None
    recovery_kit: Literal["none", "unproven", "proven"]
    kit_proven_at: str | None
    writes_only: bool


class Health(BaseModel):
    """The manual's health answer, with the reasons of its status."""

    model_config = example(
        backup_enabled=True,
        backup_directory="/app/backups",
        total_backups=15,
        total_size_mb=678.5,
        retention_days=30,
        max_backups=50,
        most_recent_backup={
            "backup_name": "radiology_backup_20250104_143022",
            "datetime": "2025-01-04T14:30:22",
            "size_mb": 45.3,
        },
        hours_since_last_backup=2.5,
        remote_backup_enabled=False,
        status="healthy",
        reasons=[],
        checked_at="2025-01-04T17:00:22.000+00:00",
        trend={
            "growth_percent_30_days": 4.1,
            "average_size_mb_7_days": 45.1,
            "average_size_mb_30_days": 44.6,
            "size_change_mb_per_day": 0.06,
            "projected_days_until_full": None,
            "success_rate_30_days": 100.0,
            "runs_30_days": 30,
        },
        disk={"free_bytes": 48318382080, "total_bytes": 107374182400},
        repository=None,
        rpo_seconds=9000.0,
        last_run={
            "job_id": 11,
            "outcome": "ok",
            "started_at": "2025-01-04T14:30:22.000+00:00",
            "finished_at": "2025-01-04T14:30:25.200+00:00",
            "duration_seconds": 3.2,
            "reason": "",
        },
        last_success_at="2025-01-04T14:30:25.200+00:00",
        last_verified_at=None,
        last_drill_at=None,
        last_drill_outcome=None,
        rto_seconds=None,
        next_scheduled_at=None,
        kept_after_restores=[],
        running_job_id=None,
    )

    backup_enabled: bool
    backup_directory: str
    total_backups: int
    total_size_mb: float
    retention_days: int
    max_backups: int
    most_recent_backup: MostRecent | None
    hours_since_last_backup: float | None
    remote_backup_enabled: bool
    status: Literal["healthy", "warning", "critical", "disabled"]
    reasons: list[ReasonShown]
    checked_at: str
    trend: TrendShown
    disk: DiskShown | None
    repository: RepositoryShown | None
    rpo_seconds: float | None
    last_run: LastRun | None
    last_success_at: str | None
    last_verified_at: str | None
    last_drill_at: str | None
    last_drill_outcome: Literal["passed", "failed", "error"] | None
    rto_seconds: float | None
    next_scheduled_at: str | None
    kept_after_restores: list[KeptShown]
    running_job_id: int | None

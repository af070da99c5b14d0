"""Health: one word for whoever looks in passing, the reasons for whoever must act, the figures for whoever watches.

A pure function of facts and time; `operations/health.py` gathers the facts, `policy/health_reasons.py` has the rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from resurgam.policy.health_facts import HealthFacts, RepositoryFacts
from resurgam.policy.health_reasons import RULES, Reason
from resurgam.policy.health_trend import Trend, trend_of
from resurgam.policy.health_view import View
from resurgam.settings.service_model import HealthLimits

if TYPE_CHECKING:
    from resurgam.catalog.catalog import BackupRecord
    from resurgam.catalog.history import Run

__all__ = ["STATUSES", "HealthFacts", "HealthLimits", "HealthReport", "Reason", "Status", "assess"]

Status = Literal["healthy", "warning", "critical", "disabled"]
STATUSES: tuple[Status, ...] = ("healthy", "warning", "critical", "disabled")


@dataclass(frozen=True, slots=True)
class HealthReport:
    """`status` is the worst of the reasons, or `disabled`.

    `newest` is the most recent backup that can be restored; `recovered_to` the moment of the data that a restore
    brings back for certain: the newest's, unless its date is of the future and another's is not. `behind`: how many
    backups wait to be copied. `max_age`: how old the newest may be, in seconds; None: as old as it likes.
    """

    status: Status
    reasons: tuple[Reason, ...]
    checked_at: datetime
    facts: HealthFacts
    newest: BackupRecord | None
    recovered_to: datetime | None
    behind: int
    trend: Trend
    max_age: float | None

    @property
    def rpo_seconds(self) -> float | None:
        """How much work a restore would lose; None without a backup."""
        return None if self.recovered_to is None else _seconds(self.recovered_to, self.checked_at)

    def to_json(self) -> dict[str, Any]:
        """The manual's answer with its keys, then what was added."""
        facts, newest = self.facts, self.newest
        last, drill = facts.last_end.get("backup"), facts.last_drill
        since = None if newest is None else _seconds(newest.taken_at, self.checked_at)
        return {
            "backup_enabled": facts.enabled,
            "backup_directory": facts.folder,
            "total_backups": len(facts.backups),
            "total_size_mb": _mb(sum(one.size for one in facts.backups)),
            "retention_days": facts.retention_days,
            "max_backups": facts.max_backups,
            "most_recent_backup": None if newest is None else _most_recent(newest),
            "hours_since_last_backup": None if since is None else round(since / 3600, 2),
            "remote_backup_enabled": facts.remote_enabled,
            "status": self.status,
            "reasons": [reason.to_json() for reason in self.reasons],
            "checked_at": _iso(self.checked_at),
            "trend": self.trend.to_json(),
            "disk": None if facts.disk is None else {"free_bytes": facts.disk.free, "total_bytes": facts.disk.total},
            "repository": None if facts.repository is None else _repository(facts.repository),
            "rpo_seconds": None if self.rpo_seconds is None else round(self.rpo_seconds, 1),
            "last_run": None if last is None else _last_run(last),
            "last_success_at": _iso(_finished(facts, "backup") or (newest.taken_at if newest else None)),
            "last_verified_at": _iso(_finished(facts, "verify")),
            "last_drill_at": _iso(drill.finished_at if drill else None),
            "last_drill_outcome": drill.outcome if drill else None,
            "rto_seconds": None if drill is None or drill.rto is None else round(drill.rto, 3),
            "next_scheduled_at": _iso(facts.schedule.next_due.get("backup") if facts.schedule else None),
            "kept_after_restores": [
                {
                    "what": one.what,
                    "place": one.place,
                    "size_bytes": one.size,
                    "until": _iso(one.until),
                    "problem": one.problem,
                }
                for one in facts.kept
            ],
            "running_job_id": facts.running[0].id if facts.running else None,
        }


def assess(facts: HealthFacts, limits: HealthLimits, now: datetime) -> HealthReport:
    """What is wrong, the worst first. Never raises, whatever the facts."""
    view = View.of(facts, now)
    reasons = sorted(_reasons(view, limits), key=lambda reason: reason.severity != "critical")
    status: Status = "healthy"
    if not facts.enabled:
        status = "disabled"
    elif reasons:
        status = reasons[0].severity
    surest = view.dated or view.newest
    return HealthReport(
        status=status,
        reasons=tuple(reasons),
        checked_at=now,
        facts=facts,
        newest=view.newest,
        recovered_to=None if surest is None else surest.taken_at,
        behind=len(view.not_copied),
        trend=trend_of(view),
        max_age=limits.max_age,
    )


def _reasons(view: View, limits: HealthLimits) -> Iterator[Reason]:
    for rule in RULES:
        yield from rule(view, limits)


def _most_recent(newest: BackupRecord) -> dict[str, Any]:
    plain = newest.taken_at.replace(microsecond=0, tzinfo=None).isoformat()
    return {"backup_name": newest.name, "datetime": plain, "size_mb": _mb(newest.size)}


def _repository(facts: RepositoryFacts) -> dict[str, Any]:
    return {
        "url": facts.url,
        "size_bytes": facts.size,
        "waiting_bytes": facts.waiting,
        "free_bytes": facts.free,
        "recovery_kit": facts.kit,
        "kit_proven_at": _iso(facts.proven),
        "writes_only": facts.writes_only,
    }


def _last_run(run: Run) -> dict[str, Any]:
    return {
        "job_id": run.id,
        "outcome": run.outcome,
        "started_at": _iso(run.started_at),
        "finished_at": _iso(run.finished_at),
        "duration_seconds": round(run.seconds, 3),
        "reason": run.reason,
    }


def _finished(facts: HealthFacts, kind: str) -> datetime | None:
    run = facts.last_success.get(kind)
    return None if run is None else run.finished_at


def _seconds(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then).total_seconds())  # a clock may have been set back


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _mb(size: int) -> float:
    """As every size in MB is rounded (`inventory.megabytes`, which stands above this layer)."""
    return (size * 2000 + (1 << 20)) // (2 << 20) / 1000

"""Facts for the tests of health: an application whose backups are well, to be spoilt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from resurgam.catalog.catalog import BackupCopy, BackupRecord, Condition
from resurgam.catalog.history import Run
from resurgam.catalog.jobs import Outcome
from resurgam.policy.health import HealthFacts, HealthLimits, HealthReport, assess
from resurgam.policy.health_facts import Disk

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MB = 1 << 20
LIMITS = HealthLimits()


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def backup(
    taken_at: datetime,
    size: int = 40 * MB,
    database_size: int | None = 200 * MB,
    condition: Condition = "good",
    locations: tuple[str, ...] = ("local",),
) -> BackupRecord:
    copies = tuple(BackupCopy(location, size, condition, "") for location in locations)
    name = f"radiology_backup_{taken_at:%Y%m%d_%H%M%S}"
    return BackupRecord(name, 1, taken_at, condition, "", size, database_size, copies)


def daily(count: int, size: int = 40 * MB, locations: tuple[str, ...] = ("local",)) -> tuple[BackupRecord, ...]:
    """A backup a day, newest first, the newest two hours old."""
    return tuple(backup(ago(days=day, hours=2), size, locations=locations) for day in range(count))


def run(outcome: Outcome, ended: datetime, kind: str = "backup", target: str = "radiology", reason: str = "") -> Run:
    return Run(1, kind, target, outcome, ended - timedelta(seconds=30), ended, 30.0, reason)


def well(**changes: object) -> HealthFacts:
    facts = HealthFacts(
        application="radiology",
        enabled=True,
        folder="/app/backups",
        retention_days=30,
        max_backups=50,
        backups=daily(10),
        disk=Disk(500 << 30, 1000 << 30),
        last_backups=(run("ok", ago(hours=2)),),
        last_success={"backup": run("ok", ago(hours=2))},
        last_end={"backup": run("ok", ago(hours=2))},
        counts={("backup", "ok"): 10},
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def judged(facts: HealthFacts, limits: HealthLimits = LIMITS) -> HealthReport:
    return assess(facts, limits, NOW)


def found(facts: HealthFacts, limits: HealthLimits = LIMITS) -> dict[str, str]:
    """Code to severity."""
    return {reason.code: reason.severity for reason in judged(facts, limits).reasons}

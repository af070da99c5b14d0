"""How backups grow, and when the disk will be full if they go on like this."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from resurgam.policy.health_view import View

if TYPE_CHECKING:
    from resurgam.catalog.catalog import BackupRecord

_DAY = 86400.0
_WEEK = timedelta(days=7)
# Beyond ten years a line through 30 days says nothing.
_FARTHEST = 3650.0


@dataclass(frozen=True, slots=True)
class Trend:
    """Sizes in bytes, rates in percent; None where there is too little to say."""

    growth_percent: float | None
    average_week: float | None
    average_month: float | None
    change_per_day: float | None
    days_until_full: float | None
    success_rate: float | None
    runs: int

    def to_json(self) -> dict[str, Any]:
        return {
            "growth_percent_30_days": _rounded(self.growth_percent, 1),
            "average_size_mb_7_days": _mb(self.average_week),
            "average_size_mb_30_days": _mb(self.average_month),
            "size_change_mb_per_day": _mb(self.change_per_day),
            "projected_days_until_full": _rounded(self.days_until_full, 1),
            "success_rate_30_days": _rounded(self.success_rate, 1),
            "runs_30_days": self.runs,
        }


def trend_of(view: View) -> Trend:
    """What the backups of the last 30 days show."""
    month = view.month
    week = [one.size for one in month if one.taken_at >= view.now - _WEEK]
    slope = _slope(month)
    return Trend(
        growth_percent=100 * (month[0].size / month[-1].size - 1) if len(month) > 1 and month[-1].size else None,
        average_week=_mean(week),
        average_month=_mean([one.size for one in month]),
        change_per_day=slope,
        days_until_full=_days_until_full(view, slope),
        success_rate=view.success_rate,
        runs=view.runs,
    )


def _slope(month: tuple[BackupRecord, ...]) -> float | None:
    """Bytes a day by which a backup grows: the least squares' line through at least three days of backups."""
    if len(month) < 3:
        return None
    start = month[-1].taken_at
    days = [(one.taken_at - start).total_seconds() / _DAY for one in month]
    if max(days) - min(days) < 3:
        return None
    middle, size = sum(days) / len(days), sum(one.size for one in month) / len(month)
    spread = sum((day - middle) ** 2 for day in days)
    return sum((day - middle) * (one.size - size) for day, one in zip(days, month, strict=True)) / spread


def _days_until_full(view: View, slope: float | None) -> float | None:
    """First the backups fill up to what retention keeps; from then on only their growth takes room."""
    disk, newest, facts = view.facts.disk, view.newest, view.facts
    if disk is None or newest is None or slope is None:
        return None
    span = max((view.month[0].taken_at - view.month[-1].taken_at).total_seconds() / _DAY, 1.0)
    per_day = (len(view.month) - 1) / span
    kept = min(float(facts.max_backups), per_day * facts.retention_days)
    missing = max(0.0, kept - len(view.good))
    if missing * newest.size > disk.free:
        days = disk.free / (per_day * newest.size)
    elif slope > 0 and kept > 0:
        days = missing / per_day + (disk.free - missing * newest.size) / (slope * kept)
    else:
        return None
    return days if days <= _FARTHEST else None


def _mean(sizes: list[int]) -> float | None:
    return sum(sizes) / len(sizes) if sizes else None


def _mb(size: float | None) -> float | None:
    return None if size is None else round(size / (1 << 20), 3)


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)

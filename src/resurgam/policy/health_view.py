"""What health's rules look at: the facts, and the few figures that several of them need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING

from resurgam.policy.health_facts import HealthFacts

if TYPE_CHECKING:
    from resurgam.catalog.catalog import BackupRecord

MONTH = timedelta(days=30)
# Two machines under NTP differ by less; a date beyond it is not believed.
SKEW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class View:
    """Facts at a moment. `good`: the application's backups that can be restored, newest first; `month`: those of
    the last 30 days."""

    facts: HealthFacts
    now: datetime
    good: tuple[BackupRecord, ...]
    month: tuple[BackupRecord, ...]

    @classmethod
    def of(cls, facts: HealthFacts, now: datetime) -> View:
        good = tuple(one for one in facts.backups if one.condition != "damaged")
        return cls(facts, now, good, tuple(one for one in good if one.taken_at >= now - MONTH))

    @property
    def newest(self) -> BackupRecord | None:
        """The most recent backup that can be restored."""
        return self.good[0] if self.good else None

    @property
    def dated(self) -> BackupRecord | None:
        """The most recent one whose date can be true: one of the future would hide that none follow it."""
        return next((one for one in self.good if one.taken_at <= self.now + SKEW), None)

    def age(self, moment: datetime) -> float:
        """Seconds since then, never negative: a clock may have been set back."""
        return max(0.0, (self.now - moment).total_seconds())

    @property
    def usual_size(self) -> float | None:
        """The median size of the last 30 days' backups without the newest; None where they are too few to say."""
        return _median([one.size for one in self.month if one is not self.newest])

    @property
    def usual_database_size(self) -> float | None:
        """The same of the databases in them."""
        others = [one.database_size for one in self.month if one is not self.newest]
        return _median([size for size in others if size is not None])

    @property
    def worth(self) -> int:
        """The room one more backup may take: the largest of the last 30 days, or the newest."""
        newest = [self.newest.size] if self.newest else []
        return max([one.size for one in self.month] + newest, default=0)

    @property
    def not_copied(self) -> tuple[BackupRecord, ...]:
        """The backups that are newer than the newest sound remote copy; none where no copies are made or seen."""
        if self.facts.remote is None or self.facts.remote.problem:
            return ()
        behind = []
        for one in self.good:
            if any(copy.location == "remote" and copy.condition != "damaged" for copy in one.copies):
                break
            behind.append(one)
        return tuple(behind)

    @property
    def successes(self) -> int:
        """Backup runs of the last 30 days that left a whole backup."""
        return sum(self.facts.counts.get(("backup", outcome), 0) for outcome in ("ok", "degraded"))

    @property
    def runs(self) -> int:
        """Backup runs of the last 30 days that ended well or badly; refused and cancelled ones say nothing."""
        return self.successes + self.facts.counts.get(("backup", "failed"), 0)

    @property
    def success_rate(self) -> float | None:
        """Percent; None without any run."""
        return 100 * self.successes / self.runs if self.runs else None


def _median(sizes: list[int]) -> float | None:
    """Of three or more: fewer do not make a habit."""
    return float(median(sizes)) if len(sizes) >= 3 else None

"""A clock that tests own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class StillClock:
    """Stands still but for `sleep`, which it writes down in `slept`."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=sum(self.slept))

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

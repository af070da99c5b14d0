"""Moments as the tables keep them: whole microseconds from 1970 in UTC, which compare and sort without parsing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Microseconds from 1970 of an aware datetime, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The aware UTC datetime of that microsecond."""
    return _EPOCH + timedelta(microseconds=microseconds)

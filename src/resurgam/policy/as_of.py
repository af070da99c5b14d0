"""Which backup holds the state as of a moment: the newest one taken at or before it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Protocol, TypeVar

from resurgam.errors import NotFoundError, UsageError

_BEFORE = re.compile(r"latest-before\s+", re.IGNORECASE)


class Taken(Protocol):
    """What is asked of a backup."""

    @property
    def name(self) -> str: ...
    @property
    def taken_at(self) -> datetime: ...
    @property
    def condition(self) -> str: ...


Backup = TypeVar("Backup", bound=Taken)


def parse_moment(text: str, zone: tzinfo | None) -> datetime:
    """`2025-01-04 14:30`, also with seconds, a T or an offset, or `latest-before` and that. UsageError if it is not.

    A time without an offset is of `zone`; None is the machine's own.
    """
    plain = _BEFORE.sub("", text.strip(), count=1).strip()
    try:
        moment = datetime.fromisoformat(plain)
        if not re.search(r"\d[T ]\d", plain):
            raise ValueError("a day alone")  # does it mean the day's beginning, or its end?
        if moment.tzinfo is None:
            moment = moment.astimezone() if zone is None else moment.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        shown = "".join(char if char.isprintable() else "?" for char in text[:60])
        raise UsageError(
            f"{shown!r} is no moment; nothing was done.", 'For example: "2025-01-04 14:30" or "2025-01-04T14:30+01:00".'
        ) from None
    return moment


def newest_before(backups: Iterable[Backup], moment: datetime) -> Backup:
    """The newest backup taken at or before the moment that is not damaged. NotFoundError if there is none."""
    found = [one for one in backups if one.taken_at <= moment and one.condition != "damaged"]
    if not found:
        raise NotFoundError(
            f"No backup was taken at or before {moment:%Y-%m-%d %H:%M:%S %z}.", "`resurgam list` shows those there are."
        )
    return max(found, key=lambda one: one.taken_at)

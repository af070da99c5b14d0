"""How figures read in the sentences of health's reasons."""

from __future__ import annotations

from datetime import datetime

from resurgam.catalog.catalog import BackupRecord
from resurgam.counting import count_text


def mb_of(size: float) -> str:
    return f"{size / (1 << 20):,.1f} MB"


def hours_of(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h"


def duration_of(seconds: float) -> str:
    return hours_of(seconds) if seconds >= 3600 else f"{seconds:,.0f} s"


def moment_of(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def count_of(number: int, noun: str) -> str:
    return count_text(number, f"{noun} is", f"{noun}s are")


def names_of(records: tuple[BackupRecord, ...] | list[BackupRecord]) -> str:
    shown = ", ".join(one.name for one in records[:3])
    return f"{shown} and {len(records) - 3:,} more" if len(records) > 3 else shown

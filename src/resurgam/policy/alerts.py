"""When people are told of a trouble: once when it comes, again while it lasts, when it grows worse, when it is over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from resurgam.catalog.alerts import Alert
from resurgam.settings.service_model import SEVERITIES, Severity

Telling = Literal["raised", "repeated", "escalated", "recovered"]
# A message that reached nobody is tried again after this.
RETRY = timedelta(minutes=10)
# What swings about its limit (free space, a mount) makes no more than two messages in this.
CALM = timedelta(minutes=30)
# A daily backup that fails a second earlier than yesterday is to be told of today.
_SLACK = 0.05


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong now. `by_message`: another message is another trouble, to be told at once (the reason of a failure,
    but not a sentence whose figures grow)."""

    severity: Severity
    message: str
    by_message: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to tell (None: nothing), and what is kept from now on in the place of `previous`."""

    telling: Telling | None
    previous: Alert | None
    next: Alert | None


def decide(key: str, previous: Alert | None, trouble: Trouble | None, now: datetime, repeat: float | None) -> Decision:
    """What to do about one trouble, or about its absence. `repeat` in seconds; None: it is not told again."""
    if trouble is None:
        told = previous is not None and previous.count > 0
        return Decision("recovered" if told else None, previous, None)
    if previous is None:
        return Decision("raised", None, Alert(key, trouble.severity, trouble.message, now, now, 1))
    telling = _telling(previous, trouble, now, repeat)
    if telling is None:
        return Decision(None, previous, previous)
    count = previous.count + 1
    kept = replace(previous, severity=trouble.severity, message=trouble.message, sent_at=now, count=count)
    return Decision(telling, previous, kept)


def is_over(told: Alert, now: datetime) -> bool:
    """Whether a trouble that is gone is to be told as over: not right after it was told, for it may come back."""
    return told.count == 0 or not timedelta(0) <= now - told.sent_at < CALM


def undelivered(told: Alert) -> Alert:
    """What is kept of an alert whose message reached nobody."""
    return replace(told, count=0)


def _telling(previous: Alert, trouble: Trouble, now: datetime, repeat: float | None) -> Telling | None:
    worse = SEVERITIES.index(trouble.severity) > SEVERITIES.index(previous.severity)
    # A clock that was set back must not silence anything.
    age = now - previous.sent_at if now >= previous.sent_at else timedelta.max
    if previous.count == 0:
        return "raised" if worse or age >= RETRY else None
    if worse:
        return "escalated"
    if trouble.by_message and trouble.message != previous.message:
        return "raised"
    due = repeat is not None and age >= timedelta(seconds=repeat * (1 - _SLACK))
    return "repeated" if due else None

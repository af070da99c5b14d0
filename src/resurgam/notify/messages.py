"""What is told, as values, and its wording: what happened, what is untouched, what to do, where and when.

Reasons and hints come from errors and health, which hold no secret.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from resurgam.counting import count_text
from resurgam.settings.service_model import Channel, Severity

if TYPE_CHECKING:
    from resurgam.catalog.jobs import Job

_LONGEST = 1500
_SHORT = 200
_HOW = {
    "ok": "succeeded",
    "failed": "failed",
    "degraded": "succeeded in part",
    "refused": "was refused",
    "cancelled": "was cancelled",
}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `severity` decides who gets it; `good` news of a trouble that is over has the trouble's severity,
    so that whoever heard of the one hears of the other."""

    event: str
    severity: Severity
    title: str
    body: str
    good: bool = False

    def is_for(self, channel: Channel) -> bool:
        """Whether that channel wants it."""
        ranks: dict[Severity, int] = {"info": 0, "warning": 1, "error": 2}
        return ranks[self.severity] >= ranks[channel.least] and (channel.events is None or self.event in channel.events)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who speaks: the application that is protected, on this machine."""

    application: str

    def of_job(self, job: Job, severity: Severity, *, lead: str = "", good: bool = False) -> Message:
        """How a job ended. `lead` goes before it: that it is told again, or that a trouble is over."""
        how = _HOW.get(job.outcome or "", "ended")
        what = job.reason or result_line(job)
        hint = str(job.details.get("hint", ""))
        target = "" if job.target == self.application else f" of {job.target}"
        body = (lead, what, f"What to do: {hint}" if hint else "")
        end = job.finished_at or job.started_at
        return Message(
            job.kind,
            severity,
            f"{self.application}: {job.kind} {how}",
            self._signed(body, f"{f'Job {job.id}: ' if job.id else ''}{job.kind}{target}", end),
            good,
        )

    def of_health(self, severity: Severity, findings: Sequence[str], now: datetime, *, good: bool = False) -> Message:
        """Findings about health, a sentence or more each, or that they are over."""
        many = count_text(len(findings), "finding")
        title = f"{self.application}: {many} of health {'over' if good else f'({severity})'}"
        return Message("health", severity, title, self._signed(findings, "`resurgam health` shows all", now), good)

    def of_test(self, now: datetime) -> Message:
        """What `resurgam notify test` sends."""
        body = ("This is a test. Whoever reads it will hear of backups that fail.",)
        return Message(
            "service", "info", f"{self.application}: a test of Resurgam's messages", self._signed(body, "", now)
        )

    def line_of(self, job: Job) -> str:
        """One line for the dead man's switch."""
        how = _HOW.get(job.outcome or "", "ended")
        return _cut(f"{self.application}: {job.kind} {how}: {job.reason or result_line(job)}", _SHORT)

    def _signed(self, parts: Sequence[str], what: str, moment: datetime) -> str:
        where = f"Application {self.application} on {platform.node()}, {moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"
        return "\n\n".join(_cut(part, _LONGEST) for part in (*parts, f"{where}\n{what}".rstrip()) if part)


def result_line(job: Job) -> str:
    """What a job that went well made, in a few words."""
    result = job.details.get("result")
    if not isinstance(result, dict):
        return ""
    name, size = result.get("backup_name"), result.get("size_mb")
    return f"{name or job.target}{f', {size} MB' if size is not None else ''}."


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"

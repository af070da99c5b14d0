"""The settings of what runs by itself: schedule, access, messages, hooks, health. Durations are in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from resurgam.settings.secret import Secret

Severity = Literal["info", "warning", "error"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error")
# What a message can be about, and what a channel can be limited to.
EVENTS = ("backup", "restore", "undo", "verify", "drill", "prune", "delete", "health", "service")


@dataclass(frozen=True, slots=True)
class Window:
    """A blackout on some weekdays (Monday is 0), in minutes from midnight; one whose end is not later than its start
    reaches into the next day."""

    days: frozenset[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """Cron expressions, None where a task is not scheduled; `timezone` is a name, "" the machine's own."""

    backup: str | None = None
    verify: str | None = None
    prune: str | None = None
    drill: str | None = None
    timezone: str = ""
    jitter: float = 0.0
    catch_up: float = 86400.0
    blackout: tuple[Window, ...] = ()

    @property
    def tasks(self) -> dict[str, str]:
        """What is scheduled: the task's name and its cron expression."""
        every = {"backup": self.backup, "verify": self.verify, "prune": self.prune, "drill": self.drill}
        return {name: cron for name, cron in every.items() if cron is not None}


@dataclass(frozen=True, slots=True)
class JwtRules:
    """How the host application's JWTs are checked. Exactly one of `secret` and `jwks` (a path or an https URL) is set.

    The claim at the dotted path `admin_claim` must be, or hold, `admin_value`.
    """

    secret: Secret | None
    jwks: str | None
    algorithm: str
    issuer: str | None
    audience: str | None
    admin_claim: str
    admin_value: str


@dataclass(frozen=True, slots=True)
class Channel:
    """Where messages go: an apprise URL, the least severity it gets, and the events it is limited to (None: all)."""

    url: Secret
    least: Severity = "warning"
    events: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Messages:
    """Who is told, and how often again. `ping_url` is the dead man's switch."""

    channels: tuple[Channel, ...] = ()
    repeat: float | None = 86400.0
    ping_url: Secret | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """Commands as argument lists, by (`before` or `after`, source); the source "" is the whole run."""

    commands: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    timeout: float | None = 300.0


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """`max_age`: seconds, None for no limit. `growth`: percent over the usual size."""

    max_age: float | None = 172800.0
    growth: int = 50

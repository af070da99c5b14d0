"""The settings of what runs by itself, read and checked; problems go to the reader like all others."""

from __future__ import annotations

import os
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from resurgam.settings import service_variables as v
from resurgam.settings.connection import read_place
from resurgam.settings.layers import Reader
from resurgam.settings.model import DrillRules
from resurgam.settings.parse import quoted
from resurgam.settings.secret import Secret
from resurgam.settings.service_model import (
    EVENTS,
    SEVERITIES,
    Channel,
    HealthLimits,
    Hooks,
    JwtRules,
    Messages,
    Schedule,
    Severity,
    Window,
)
from resurgam.settings.table import Variable

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(?:([A-Za-z]{3})(?:-([A-Za-z]{3}))?\s+)?(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)")
# `WORDS=` before a URL; a URL itself has its colon before any equals sign.
_FILTERED = re.compile(r"([a-z,]+)=(.+)")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://.")
_HMAC = ("HS256", "HS384", "HS512")
_PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_LEAST_SECRET = 32


def read_service(reader: Reader) -> dict[str, Any]:
    """The values, by the names of Settings' fields."""
    return {
        "schedule": _schedule(reader),
        "jwt": _jwt(reader),
        "messages": _messages(reader),
        "hooks": _hooks(reader),
        "health": HealthLimits(reader.value(v.BACKUP_MAX_AGE), reader.value(v.BACKUP_EXPECTED_GROWTH)),
        "drills": _drills(reader),
        "backup_shrink_limit": reader.value(v.BACKUP_SHRINK_LIMIT),
        "on_shutdown": reader.value(v.BACKUP_ON_SHUTDOWN),
    }


def _schedule(reader: Reader) -> Schedule:
    backup = _cron(reader, v.BACKUP_SCHEDULE)
    others = {
        "verify": _cron(reader, v.BACKUP_VERIFY_SCHEDULE),
        "prune": _cron(reader, v.BACKUP_PRUNE_SCHEDULE),
        "drill": _cron(reader, v.BACKUP_DRILL_SCHEDULE),
    }
    if backup is None:
        others = dict.fromkeys(others)
    zone = reader.value(v.BACKUP_SCHEDULE_TIMEZONE)
    if zone:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
            reader.complain(v.BACKUP_SCHEDULE_TIMEZONE.name, f"names no time zone: {quoted(zone)}")
    windows = []
    for item in reader.value(v.BACKUP_BLACKOUT):
        window = _window(item)
        if window is None:
            reader.complain(v.BACKUP_BLACKOUT.name, f"must have windows as `Mon-Fri 07:30-18:00`, not {quoted(item)}")
        else:
            windows.append(window)
    return Schedule(
        backup=backup,
        **others,
        timezone=zone,
        jitter=reader.value(v.BACKUP_SCHEDULE_JITTER) or 0.0,
        catch_up=reader.value(v.BACKUP_SCHEDULE_CATCH_UP) or 0.0,
        blackout=tuple(windows),
    )


def _cron(reader: Reader, variable: Variable[str]) -> str | None:
    text = " ".join(reader.value(variable).split())
    if text.lower() == "none":
        return None
    # Imported only where there is something to check.
    from cronsim import CronSim, CronSimError

    text = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}.get(
        text, text
    )
    try:
        if len(text.split()) != 5:
            raise CronSimError("not five fields")
        next(CronSim(text, datetime(2025, 1, 1, tzinfo=UTC)))
    except CronSimError:
        reader.complain(variable.name, f"must be in cron syntax as `0 2 * * *`, @daily, or none, not {quoted(text)}")
        return None
    except StopIteration:
        reader.complain(variable.name, f"names a time that never comes: {quoted(text)}")
        return None
    return text


def _window(text: str) -> Window | None:
    match = _WINDOW.fullmatch(text)
    if match is None:
        return None
    first, last = ((match[n] or "").lower() for n in (1, 2))
    if any(day and day not in _DAYS for day in (first, last)):
        return None
    start, end = int(match[3]) * 60 + int(match[4]), int(match[5]) * 60 + int(match[6])
    if start >= 1440 or end > 1440 or int(match[4]) > 59 or int(match[6]) > 59 or start == end:
        return None
    if not first:
        return Window(frozenset(range(7)), start, end)
    begin, stop = _DAYS.index(first), _DAYS.index(last or first)
    return Window(frozenset((begin + n) % 7 for n in range((stop - begin) % 7 + 1)), start, end)


def _jwt(reader: Reader) -> JwtRules | None:
    secret, jwks = reader.secret(v.BACKUP_JWT_SECRET), reader.optional(v.BACKUP_JWT_JWKS)
    if secret is None and jwks is None:
        return None
    if secret is not None and jwks is not None:
        reader.complain(v.BACKUP_JWT_SECRET.name, "and BACKUP_JWT_JWKS are both set; keep one of them")
    if secret is not None and len(secret.reveal()) < _LEAST_SECRET:
        reader.complain(v.BACKUP_JWT_SECRET.name, f"must have at least {_LEAST_SECRET} characters")
    if jwks is not None and "://" in jwks and not jwks.startswith("https://"):
        reader.complain(v.BACKUP_JWT_JWKS.name, "must be a file or an https URL")
    allowed = _HMAC if secret is not None else _PUBLIC
    algorithm = reader.optional(v.BACKUP_JWT_ALGORITHM) or allowed[0]
    if algorithm not in allowed:
        reader.complain(v.BACKUP_JWT_ALGORITHM.name, f"must be one of {', '.join(allowed)} here")
    claim, _, value = reader.value(v.BACKUP_JWT_ADMIN).partition("=")
    if not claim or not value:
        reader.complain(v.BACKUP_JWT_ADMIN.name, "must be CLAIM=VALUE, as role=admin")
    return JwtRules(
        secret=secret,
        jwks=jwks if jwks is None or "://" in jwks else str(reader.base / jwks),
        algorithm=algorithm,
        issuer=reader.optional(v.BACKUP_JWT_ISSUER),
        audience=reader.optional(v.BACKUP_JWT_AUDIENCE),
        admin_claim=claim,
        admin_value=value,
    )


def _messages(reader: Reader) -> Messages:
    urls = reader.secret(v.BACKUP_NOTIFY_URLS)
    channels = []
    for number, item in enumerate(urls.reveal().split() if urls is not None else (), start=1):
        channel = _channel(item)
        if channel is None:
            # The item itself may hold a password.
            reader.complain(
                v.BACKUP_NOTIFY_URLS.name,
                f"must be URLs, each perhaps after WORDS= of {', '.join((*SEVERITIES, *EVENTS))}; "
                f"number {number} is not",
            )
        else:
            channels.append(channel)
    ping = reader.secret(v.BACKUP_PING_URL)
    if ping is not None and re.fullmatch(r"https?://[^\s/]+\S*", ping.reveal().strip()) is None:
        reader.complain(v.BACKUP_PING_URL.name, "must be an http or https URL")
        ping = None
    return Messages(tuple(channels), reader.value(v.BACKUP_NOTIFY_REPEAT), ping)


def _channel(item: str) -> Channel | None:
    filtered = _FILTERED.fullmatch(item)
    words, url = (filtered[1].split(","), filtered[2]) if filtered else ([], item)
    if _URL.match(url) is None or any(word not in (*SEVERITIES, *EVENTS) for word in words):
        return None
    named = [severity for severity in SEVERITIES if severity in words]
    least: Severity = named[0] if named else "warning"
    events = frozenset(word for word in words if word in EVENTS)
    return Channel(Secret(url), least, events or None)


def _drills(reader: Reader) -> DrillRules:
    file = reader.optional(v.DRILL_FILE)
    return DrillRules(
        database=read_place(reader, v.DRILL_DATABASE_URL),
        embedded=reader.value(v.DRILL_SERVER) == "embedded",
        file=None if file is None else Path(os.path.normpath(reader.base / file)),
        each_backup=reader.value(v.DRILL_EACH_BACKUP),
    )


def _hooks(reader: Reader) -> Hooks:
    variables = {("before", ""): v.BACKUP_HOOK_BEFORE, ("after", ""): v.BACKUP_HOOK_AFTER}
    for variable in v.BACKUP_HOOKS_OF_SOURCES:
        when, source = variable.name.removeprefix("BACKUP_HOOK_").lower().split("_")
        variables[when, source] = variable
    commands = {}
    for place, variable in variables.items():
        text = reader.optional(variable)
        if text is None:
            continue
        try:
            commands[place] = tuple(shlex.split(text))
        except ValueError:
            reader.complain(variable.name, "has a quotation mark without its end")
    return Hooks(commands, reader.value(v.BACKUP_HOOK_TIMEOUT))

"""The schedule's time zone: the one that is named, else the machine's, as the C library would find it.

TZ first, then /etc/localtime, then UTC. An unusable TZ means UTC (tzset(3)).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from zoneinfo import ZoneInfo

_LOCALTIME = Path("/etc/localtime")


def schedule_zone(name: str, environment: Mapping[str, str], localtime: Path = _LOCALTIME) -> ZoneInfo:
    """The zone of that name, which the settings have checked; the machine's for ""."""
    if name:
        return ZoneInfo(name)
    told = environment.get("TZ")
    if told is not None:
        told = told.removeprefix(":")
        return _file(Path(told)) if told.startswith("/") else _named(told) or _rule(told) or ZoneInfo("UTC")
    return _file(localtime)


def zone_name(zone: ZoneInfo) -> str:
    """As it is shown."""
    return zone.key or "local"


def _file(path: Path) -> ZoneInfo:
    """A zone file; its name where it lies in the zone database, often behind a link."""
    try:
        real = path.resolve()
        _, found, name = str(real).rpartition("/zoneinfo/")
        known = _named(name) if found else None
        if known is not None:
            return known
        with real.open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links that lead in a circle
        return ZoneInfo("UTC")


def _named(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return None


def _rule(text: str) -> ZoneInfo | None:
    """A zone by a rule, as `CET-1CEST,M3.5.0,M10.5.0/3`: ZoneInfo knows these as the last line of a zone file."""
    # RFC 9636: a header with its six counts, here of one local time type and one byte of names; twice, since version 1
    # has no such line.
    head = b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, 0, 1, 1)
    body = struct.pack(">lbb", 0, 0, 0) + b"\0"
    try:
        footer = b"\n" + text.encode("ascii") + b"\n"
        return ZoneInfo.from_file(io.BytesIO((head + body) * 2 + footer), key=text) if text else None
    except ValueError:
        return None

"""How figures read for people: sizes with units, local time with its zone, durations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

_KB, _MB, _GB, _TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def size_text(size: int | None) -> str:
    """Bytes in a unit that fits; MB are 1,048,576 bytes, as everywhere here."""
    if size is None:
        return "unknown"
    for unit, name in ((_TB, "TB"), (_GB, "GB"), (_MB, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / _KB:.1f} KB" if size >= _KB else f"{size} bytes"


def moment_text(plain: str) -> str:
    """The manual's `datetime` (UTC, without a zone) as local time with its zone."""
    try:
        return f"{datetime.fromisoformat(plain).replace(tzinfo=UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except (ValueError, OverflowError):
        return plain or "unknown"


def seconds_text(seconds: float) -> str:
    """A duration: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def printable(text: str) -> str:
    """Without what could steer a terminal: names in an archive are anybody's."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def columns(heads: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Aligned plain columns; those whose number is in `right` are aligned to the right."""
    table = [tuple(heads), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    form = "  ".join(f"{{:{'>' if i in right else '<'}{width}}}" for i, width in enumerate(widths))
    return "\n".join(form.format(*row).rstrip() for row in table)

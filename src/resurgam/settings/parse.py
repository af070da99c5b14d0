"""One text to one value: strict, and a ValueError that says what would be right.

The messages may quote the text, so no parser here is used for a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

# What a layer holds for a name: a text, or (from a TOML array) the items of a list.
Raw = str | tuple[str, ...]
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(s|m|h|d)?", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


def quoted(text: str) -> str:
    """The text for a message: short, and without control characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def text(raw: Raw) -> str:
    """Any text of one line."""
    if isinstance(raw, tuple):
        raise ValueError("must be one value, not a list")
    if not all(character.isprintable() or "\udc80" <= character <= "\udcff" for character in raw):
        raise ValueError("must not contain control characters")
    return raw


def boolean(raw: Raw) -> bool:
    """true/false, 1/0, yes/no, on/off in any case."""
    word = text(raw).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"must be true or false (1/0, yes/no, on/off), not {quoted(text(raw))}")


def integer(least: int, most: int = 999_999_999) -> Callable[[Raw], int]:
    """A parser of whole numbers in decimal digits within bounds, both included."""
    bounds = f"from {least} to {most}" if most < 999_999_999 else f"of at least {least}"

    def parse(raw: Raw) -> int:
        digits = text(raw)
        # int() would also take "1_000", "+5" and other scripts' digits.
        if re.fullmatch(r"[0-9]{1,9}", digits) is None or not least <= int(digits) <= most:
            raise ValueError(f"must be a whole number {bounds}, not {quoted(digits)}")
        return int(digits)

    return parse


def one_of(*words: str) -> Callable[[Raw], str]:
    """A parser of one of some words, in any case; "" stands for none of them."""

    def parse(raw: Raw) -> str:
        word = text(raw).lower()
        if word and word not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}, not {quoted(word)}")
        return word

    return parse


def duration(raw: Raw) -> float | None:
    """Seconds from `90`, `90s`, `10m`, `2h` or `1d`; None, meaning no limit, from `none` or `0`."""
    words = text(raw)
    if words.lower() == "none":
        return None
    match = _DURATION.fullmatch(words)
    if match is None:
        raise ValueError(f"must be a duration such as 90, 90s, 10m or 2h, or none, not {quoted(words)}")
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()]
    return seconds or None


def items(raw: Raw) -> tuple[str, ...]:
    """The parts between commas, or a TOML array's items; `none` is the empty list."""
    if isinstance(raw, str):
        if raw.lower() == "none":
            return ()
        raw = tuple(raw.split(","))
    return tuple(stripped for item in raw if (stripped := text(item.strip())))


def app_name(raw: Raw) -> str:
    """A name that may begin a file name anywhere."""
    name = text(raw)
    if _APP_NAME.fullmatch(name) is None:
        raise ValueError(
            "must begin with a letter or digit and hold at most 40 letters, digits, `_`, `.` and `-`, "
            f"not {quoted(name)}"
        )
    return name

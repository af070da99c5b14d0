"""How many of something, in words; for every layer."""

from __future__ import annotations


def count_text(count: int, singular: str, plural: str = "") -> str:
    """`1 file`, `1,234 files`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"

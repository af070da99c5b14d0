"""How long a failed try to get in waits for its answer."""

from __future__ import annotations

WINDOW = 60.0
# More failures than this change nothing: the delay has reached its limit.
COUNTED = 16
_FREE = 5
_FIRST = 0.05
_LONGEST = 1.0


def delay(failures: int) -> float:
    """Seconds before the answer to the last of so many failures within WINDOW: none for a few, then doubling."""
    return 0.0 if failures <= _FREE else min(_FIRST * 2.0 ** (failures - _FREE - 1), _LONGEST)

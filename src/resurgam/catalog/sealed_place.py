"""Where a sealed backup stands among the others: its number is unknown, its time is in its name."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any


def placed(groups: list[list[Any]]) -> list[list[Any]]:
    """Rows of copies by backup, with the number of a sealed one made that of the backup before it.

    A row is (name, location, size, condition, problem, sequence, taken_us, ...), a backup's best copy first.
    """
    if not any(group[0][3] == "sealed" for group in groups):
        return groups
    numbered = sorted((group[0][6], group[0][5]) for group in groups if group[0][5])
    highest = list(accumulate((sequence for _, sequence in numbered), max, initial=0))
    times = [taken for taken, _ in numbered]
    placed = []
    for group in groups:
        name, location, size, condition, problem, sequence, taken, *rest = group[0]
        if condition == "sealed":
            sequence = highest[bisect_right(times, taken)]
            group = [(name, location, size, condition, problem, sequence, taken, *rest), *group[1:]]
        placed.append(group)
    return placed

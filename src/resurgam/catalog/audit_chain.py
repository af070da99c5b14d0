"""Whether the audit log's entries are those that were written: decided entry by entry, without I/O.

- An entry that its own digest does not fit was edited; where the digest fits with another number, it was moved.
- An entry that fits, but does not name the digest of the one before it: one of the two was put in or rewritten.
- Numbers run from 1 to what the head and SQLite's sequence remember, so every gap is a deletion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FIRST = "0" * 64
_FIELDS = ("id", "at_us", "actor", "role", "origin", "action", "target", "outcome", "details", "previous")
# Each unfitting entry is tried with this many numbers at most, so that a log scrawled all over is still read in time.
_TRIED = 200


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry's number and digest."""

    id: int
    digest: str


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """`entries` were read; `problems` are sentences, none where all is well; `last` is what to keep elsewhere."""

    entries: int
    problems: tuple[str, ...]
    last: Head | None

    def to_json(self) -> dict[str, Any]:
        last = None if self.last is None else {"id": self.last.id, "digest": self.last.digest}
        problems = list(self.problems)
        return {"success": not problems, "entries": self.entries, "problems": problems, "last": last}


def digest_of(entry: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, over the canonical JSON of an entry's fields: keys sorted, no blanks, ASCII."""
    fields = {name: entry[name] for name in _FIELDS}
    # `default`: someone else may have put a blob into a column.
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(slots=True)
class ChainCheck:
    """Is shown every entry in the order of the numbers, and keeps what does not fit."""

    entries: int = 0
    _number: int = 0
    # The digests of the two entries seen last, and whether the last one fitted its own.
    _digest: str = FIRST
    _earlier: str = ""
    _fitted: bool = True
    _missing: list[tuple[int, int]] = field(default_factory=list)
    _unfitting: dict[int, dict[str, Any] | None] = field(default_factory=dict)
    _inserted: list[int] = field(default_factory=list)
    _loose: list[int] = field(default_factory=list)

    def see(self, row: Mapping[str, Any]) -> None:
        """The next entry."""
        number, fits = int(row["id"]), digest_of(row) == row["digest"]
        self.entries += 1
        if not fits:
            self._unfitting[number] = dict(row) if len(self._unfitting) < _TRIED else None
        if number < 1:
            self._inserted.append(number)
            return
        if number > self._number + 1:
            self._missing.append((self._number + 1, number - 1))
        elif row["previous"] != self._digest and self._fitted:
            if row["previous"] == self._earlier:
                self._inserted.append(self._number)
            elif fits:
                self._loose.append(number)
        self._number, self._fitted = number, fits
        self._earlier, self._digest = self._digest, str(row["digest"])

    def result(self, head: Head | None, sequence: int) -> AuditCheck:
        """What came of it, with what the head and SQLite's sequence remember of the end."""
        end = max(head.id if head is not None else 0, sequence)
        if end > self._number:
            self._missing.append((self._number + 1, end))
        moved = self._moved()
        edited = [number for number in self._unfitting if number not in moved]
        problems = [f"{_named(*gap)} missing: deleted." for gap in self._missing]
        problems += [f"{_named(*run)} not what was written: edited." for run in _runs(edited)]
        problems += [f"Entry {place} was written as entry {was}: reordered." for place, was in moved.items()]
        problems += [f"{_named(*run)} none of those that were written: inserted." for run in _runs(self._inserted)]
        problems += [
            f"Entry {number} does not continue entry {number - 1}: one of them was inserted or rewritten."
            for number in self._loose
        ]
        problems += self._end_problems(head)
        last = Head(self._number, self._digest) if self._number else None
        return AuditCheck(self.entries, tuple(problems), last)

    def _end_problems(self, head: Head | None) -> list[str]:
        if head is None:
            return ["The note of the last entry is missing: deleted."] if self._number else []
        if head.id < self._number:
            return [f"{_named(head.id + 1, self._number)} behind the last one that was written: inserted."]
        if head.id == self._number and head.digest != self._digest and self._fitted:
            return [f"Entry {head.id} is not the one that was written last: it was rewritten."]
        return []

    def _moved(self) -> dict[int, int]:
        """The present numbers of entries that fit under another, and that other."""
        numbers = {*list(self._unfitting)[:_TRIED], *(first for first, _ in self._missing[:_TRIED])}
        moved = {}
        for place, row in self._unfitting.items():
            if row is None:
                break
            for number in (place - 1, place + 1, *sorted(numbers)):
                if number != place and digest_of({**row, "id": number}) == row["digest"]:
                    moved[place] = number
                    break
        return moved


def _runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """The same numbers as runs from first to last."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def _named(first: int, last: int) -> str:
    return f"Entry {first} is" if first == last else f"Entries {first} to {last} are"

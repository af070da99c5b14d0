"""Figures as a plain table: what was measured, against what, the ratio, the target, and whether it was reached."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

_WIDTHS = (46, 12, 12, 9, 9)


@dataclass(frozen=True, slots=True)
class Line:
    """One row; `target` is the highest value that is good enough (the lowest, if `at_least`), None if there is none."""

    what: str
    ours: str
    other: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def text(self) -> str:
        verdict = {True: "OK", False: "MISSED", None: ""}[self.reached]
        sign = ">= " if self.at_least else "<= "
        target = "" if self.target is None else f"{sign}{_number(self.target)}"
        cells = (self.what, self.ours, self.other, f"{_number(self.value)}{self.unit}", target)
        aligned = [cells[0].ljust(_WIDTHS[0])]
        aligned += [cell.rjust(width) for cell, width in zip(cells[1:], _WIDTHS[1:], strict=True)]
        return "  ".join([*aligned, verdict]).rstrip()


def heading() -> str:
    cells = ["what".ljust(_WIDTHS[0])]
    names = ("ours", "other", "value", "target")
    cells += [cell.rjust(width) for cell, width in zip(names, _WIDTHS[1:], strict=True)]
    return "  ".join(cells) + "\n" + "-" * (sum(_WIDTHS) + 2 * len(_WIDTHS) + 6)


def ratio(what: str, ours: list[float], other: list[float], target: float | None = None) -> Line:
    """Medians of two lists of seconds, ours over theirs."""
    mine, theirs = median(ours), median(other)
    return Line(what, f"{mine:.2f} s", f"{theirs:.2f} s", mine / theirs, "", target)


def memory(what: str, peaks: list[int], target_mb: float) -> Line:
    """The highest of the peaks, in MB of 1,048,576 bytes."""
    highest = max(peaks) / (1 << 20)
    return Line(what, f"{highest:.0f} MB", "", highest, " MB", target_mb)


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.0f}"

"""How long a restore should take, by how long earlier ones took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

_LATEST = 5
# Smaller ones say how long connecting takes, not loading.
_TELLING_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Timing:
    """An earlier restore or drill: bytes of dump and files, seconds."""

    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """`seconds` is None where no earlier run tells; `runs` is how many did."""

    seconds: float | None
    runs: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate(size: int, earlier: Sequence[Timing]) -> Estimate:
    """The median rate of the latest five (newest first) times `size`; small ones count for what is small too."""
    usable = [run for run in earlier if run.bytes > 0 and run.seconds > 0]
    large = [run for run in usable if run.bytes >= _TELLING_BYTES]
    chosen = (large or usable if size >= _TELLING_BYTES else usable)[:_LATEST]
    if not chosen:
        return Estimate(None, 0)
    if size < _TELLING_BYTES:
        return Estimate(round(median(run.seconds for run in chosen), 1), len(chosen))
    return Estimate(round(size * median(run.seconds / run.bytes for run in chosen), 1), len(chosen))

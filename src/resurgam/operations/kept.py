"""What restores and undos keep of what they replaced, by their journals alone: where it is, how large, until when.

The journal of a restore that is complete says it all; what changed since, kept_marks.py finds out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from resurgam.catalog.state import Journal, State
from resurgam.operations.swap_paths import Step, replaced_of

SWAP = "swap:"


@dataclass(frozen=True, slots=True)
class Side:
    """One thing that was kept. `oid`: of a database; None for a file or folder, whose `place` is its path.

    `size` in bytes; None where it is not known. `refused`: why it was not swept when that was due; `swept_at`: when it
    was, or was found to be gone.
    """

    restore_id: str
    place: str
    oid: int | None
    replaced_at: datetime
    size: int | None
    mark: dict[str, Any] | None
    refused: str = ""
    swept_at: datetime | None = None
    sweeping: bool = False

    @property
    def is_database(self) -> bool:
        return self.oid is not None

    def describe(self) -> str:
        """For messages."""
        return f"the database {self.place}" if self.is_database else self.place

    def until(self, keep: float | None) -> datetime | None:
        """When its time is over; None for never."""
        return None if keep is None else self.replaced_at + timedelta(seconds=keep)


def swap_steps(journal: Journal) -> list[Step]:
    """The steps that swapped files and folders."""
    return [(step.step.removeprefix(SWAP), step.data) for step in journal.steps if step.step.startswith(SWAP)]


def database_swap(journal: Journal) -> dict[str, Any] | None:
    """What the journal says of the database's swap; None if there was none."""
    return next((step.data for step in journal.steps if step.step == "database_swap"), None)


def in_place_step(journal: Journal) -> dict[str, Any] | None:
    """The transaction of a restore in place, and the safety backup that takes it back; None if it was not in place."""
    return next((step.data for step in journal.steps if step.step == "in_place"), None)


def is_ours(journal: Journal, folder: Path) -> bool:
    """Whether a run of this backup folder made it. A folder that is gone was moved or renamed: it is ours then."""
    theirs = journal.plan.get("folder")
    return theirs is None or theirs == os.path.realpath(folder) or not os.path.isdir(theirs)  # noqa: PTH112


def sides_of(journal: Journal) -> Iterator[Side]:
    """What a completed restore or undo kept. What a later undo brought back is not there any more: see `is_there`."""
    if journal.outcome != "completed" or journal.ended_at is None:
        return
    notes: dict[tuple[str, str], tuple[dict[str, Any], datetime]] = {}
    for step in journal.steps:
        if step.step in ("kept", "sweeping", "swept", "sweep_refused"):
            notes[step.step, step.data["place"]] = (step.data, step.at)

    def side(place: str, oid: int | None) -> Side:
        marked, refused, swept = (notes.get((what, place)) for what in ("kept", "sweep_refused", "swept"))
        assert journal.ended_at is not None
        return Side(
            restore_id=journal.restore_id,
            place=place,
            oid=oid,
            replaced_at=journal.ended_at,
            size=marked[0].get("size") if marked else None,
            mark=marked[0].get("mark") if marked else None,
            refused=refused[0]["reason"] if refused and not swept else "",
            swept_at=swept[1] if swept else None,
            sweeping=("sweeping", place) in notes,
        )

    swap = database_swap(journal)
    if swap is not None and swap.get("old_oid") is not None:
        yield side(swap["previous"], swap["old_oid"])
    for kept in replaced_of(swap_steps(journal)):
        if kept.previous is not None:
            yield side(os.fspath(kept.previous), None)


def kept_sides(state: State, folder: Path) -> tuple[Side, ...]:
    """All that this folder's restores keep, by their journals alone: what a user removed shows until the next sweep."""
    journals = [one for one in state.journals() if is_ours(one, folder) and one.outcome == "completed"]
    # What an undo brought back is live.
    undone = {one.plan.get("undoes") for one in journals}
    sides = (side for one in journals if one.restore_id not in undone for side in sides_of(one))
    return tuple(side for side in sides if side.swept_at is None)

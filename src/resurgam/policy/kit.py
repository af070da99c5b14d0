"""Whether a repository may be relied on by its recovery kit (docs/ordering.md, sentence 63)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from resurgam.errors import KeyRefused
from resurgam.keys.ring import KeyRing


@dataclass(frozen=True, slots=True)
class KitStanding:
    """`none`: no kit was made, and health warns. `unproven`: none of the kits was given back yet. `proven`: one was,
    and `when` the newest proof is of."""

    word: Literal["none", "unproven", "proven"]
    when: datetime | None = None


def kit_standing(ring: KeyRing) -> KitStanding:
    """One proven kit is enough: making a second one must not stop backups."""
    kits = [slot for slot in ring.slots if slot.kind == "kit"]
    proofs = [slot.proven for slot in kits if slot.proven is not None]
    if proofs:
        return KitStanding("proven", max(proofs))
    return KitStanding("unproven" if kits else "none")


def require_recoverable(ring: KeyRing) -> None:
    """KeyRefused, with the next command, if a backup must wait until the kit was proven."""
    if kit_standing(ring).word == "unproven":
        raise KeyRefused(
            "The repository's recovery kit was never proven, so no backup was taken: a sheet that nobody could read "
            "back would be found out when it is needed.",
            "resurgam keys kit --prove, and type what is printed on it (or --file FILE).",
        )

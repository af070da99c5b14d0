"""What the doctor sees of a repository: whether it opens, who opens it, how much it holds, what waits to be removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from resurgam.operations.doctor import Status
from resurgam.operations.inventory import megabytes
from resurgam.operations.repository_opening import Opened, RepositoryAccess
from resurgam.policy.kit import KitStanding, kit_standing


@dataclass(frozen=True, slots=True)
class RepositoryLook:
    """A repository at one moment: bytes of all packs, and of those with a tombstone; `free` bytes where that is told.
    `warnings` are of the key ring."""

    url: str
    kit: KitStanding
    slots: int
    size: int
    waiting: int
    free: int | None
    warnings: tuple[str, ...]
    can_read: bool


def look_at(access: RepositoryAccess) -> RepositoryLook:
    """Open it, and list its packs. Raises as `RepositoryAccess.open`."""
    opened: Opened = access.open()
    repository = opened.repository
    packs = repository.index.packs.values()
    return RepositoryLook(
        url=repository.store.url,
        kit=kit_standing(opened.ring),
        slots=len(opened.ring.slots),
        size=sum(pack.size for pack in packs),
        waiting=sum(pack.size for pack in packs if pack.tombstoned),
        free=repository.store.free_bytes(),
        warnings=opened.warnings,
        can_read=repository.keys.can_read,
    )


def repository_findings(look: RepositoryLook) -> Iterator[tuple[Status, str, str]]:
    """Status, sentence and what to do of each thing."""
    use = "opened" if look.can_read else "opened by a write-only key, which adds backups and reads none"
    yield "ok", f"{look.url} is {use}: {megabytes(look.size):,} MB in packs, {look.slots} ways to open it.", ""
    for warning in look.warnings:
        yield "warning", warning, ""
    if look.waiting:
        yield "ok", f"{megabytes(look.waiting):,} MB wait for the next prune to remove them.", ""
    if look.kit.word == "none":
        finding = "There is no recovery kit: who forgets the passphrase loses every backup."
        yield "warning", finding, "resurgam keys kit --out recovery-kit.html"
    elif look.kit.word == "unproven":
        finding = "The recovery kit was never proven, so every backup fails."
        yield "problem", finding, "resurgam keys kit --prove"
    else:
        yield "ok", f"The recovery kit was proven on {look.kit.when:%Y-%m-%d}.", ""

"""What the doctor sees of a repository: whether it opens, who opens it, how much it holds, what waits to be removed."""

from __future__ import annotations

from collections.abc import Iterator

from resurgam.counting import count_text
from resurgam.operations.doctor import Status
from resurgam.operations.inventory import megabytes
from resurgam.operations.repository_opening import Opened, RepositoryAccess
from resurgam.policy.health_facts import RepositoryFacts
from resurgam.policy.kit import kit_standing


def look_at(access: RepositoryAccess) -> RepositoryFacts:
    """Open it, and list its packs. Raises as `RepositoryAccess.open`."""
    opened: Opened = access.current()
    repository = opened.repository
    repository.index.reload()
    packs = repository.index.packs.values()
    standing = kit_standing(opened.ring)
    return RepositoryFacts(
        url=repository.store.url,
        kit=standing.word,
        proven=standing.when,
        slots=len(opened.ring.slots),
        size=sum(pack.size for pack in packs),
        waiting=sum(pack.size for pack in packs if pack.tombstoned),
        free=repository.store.free_bytes(),
        troubles=opened.warnings,
        writes_only=not repository.keys.can_read,
    )


def repository_findings(look: RepositoryFacts) -> Iterator[tuple[Status, str, str]]:
    """Status, sentence and what to do of each thing."""
    use = "opened" if not look.writes_only else "opened by a write-only key, which adds backups and reads none"
    yield (
        "ok",
        f"{look.url} is {use}: {megabytes(look.size):,} MB in packs, {count_text(look.slots, 'way')} to open it.",
        "",
    )
    for warning in look.troubles:
        yield "warning", warning, ""
    if look.waiting:
        yield "ok", f"{megabytes(look.waiting):,} MB wait for the next prune to remove them.", ""
    if look.kit == "none":
        finding = "There is no recovery kit: who forgets the passphrase loses every backup."
        yield "warning", finding, "resurgam keys kit --out recovery-kit.html"
    elif look.kit == "unproven":
        finding = "The recovery kit was never proven, so every backup fails."
        yield "problem", finding, "resurgam keys kit --prove"
    else:
        yield "ok", f"The recovery kit was proven on {look.proven:%Y-%m-%d}.", ""

"""What a repository should hold and does not: listings compared, as sets, with all that is known (ordering.md, 57)."""

from __future__ import annotations

from dataclasses import dataclass

from resurgam.errors import CollectionRefused, HostileError, ObjectMissing
from resurgam.repository.layout import INDEXES, id_of
from resurgam.repository.manifests import ids_of
from resurgam.repository.removals import Removals
from resurgam.repository.repository import Repository, Standing
from resurgam.repository.sealing import WRITE_ONLY

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Losses:
    """Ids that something knows of, that no record names as removed, and that are not listed. `outcomes`: of manifests
    that are there and were committed, as others know."""

    manifests: frozenset[bytes]
    outcomes: frozenset[bytes]
    packs: frozenset[bytes]
    indexes: frozenset[bytes]

    def __bool__(self) -> bool:
        return bool(self.manifests or self.outcomes or self.packs or self.indexes)

    @property
    def words(self) -> list[str]:
        """What is lost, a few words each."""
        return [
            *(f"the manifest {one.hex()} of a committed backup" for one in sorted(self.manifests)),
            *(f"the outcome {one.hex()} of a committed backup" for one in sorted(self.outcomes)),
            *(f"the pack {one.hex()}" for one in sorted(self.packs)),
            *(f"the index {one.hex()}" for one in sorted(self.indexes)),
        ]

    @property
    def removals(self) -> Removals:
        """A record that takes note of them; outcomes can be put again."""
        return Removals(self.manifests, self.packs, self.indexes)


def find_losses(repository: Repository, standing: Standing, remembered: frozenset[bytes] = frozenset()) -> Losses:
    """Compare one listing with what outcomes, manifests, records and this machine (`remembered` manifests) know.

    A write-only host's manifest is not asked: a host that was broken into could name what never was, and no prune would
    ever run again. What such hosts have committed is remembered by the machines that prune.

    The repository's index must have been reloaded. DamagedError if a manifest does not open.
    """
    removed = standing.removed
    manifests = set(remembered) | set(standing.orphaned)
    packs, indexes = set(removed.written), set[bytes]()
    for manifest in standing.committed:
        try:
            head = repository.manifest(manifest).head
            if repository.author(manifest) == WRITE_ONLY:
                continue
        except (ObjectMissing, HostileError):
            continue  # deleted since it was listed; or nonsense
        manifests |= set(ids_of(head.known))
        packs |= set(head.packs)
        indexes |= set(head.indexes)
    missing = manifests - set(standing.committed) - removed.manifests
    there = set(listed_indexes(repository))
    return Losses(
        manifests=frozenset(missing - set(standing.undecided)),
        outcomes=frozenset(missing & set(standing.undecided)),
        packs=frozenset(packs - set(repository.index.packs) - removed.packs),
        indexes=frozenset(indexes - there - removed.indexes),
    )


def refuse_losses(repository: Repository, standing: Standing, remembered: frozenset[bytes] = frozenset()) -> None:
    """CollectionRefused if a listing lacks what should be there."""
    lost = find_losses(repository, standing, remembered).words
    if lost:
        more = f", and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise CollectionRefused(
            f"{repository.store.url} lacks {', '.join(lost[:_NAMED])}{more}, which nobody removed on purpose; nothing "
            "was removed.",
            "If its disk or bucket is only partly there, mend that. `resurgam verify --all` says which backups are "
            "hurt; `resurgam repair` settles what is lost for good.",
        )


def listed_indexes(repository: Repository) -> list[bytes]:
    """The indexes that are there."""
    found = (id_of(one.key) for one in repository.store.list(INDEXES))
    return [one for one in found if one is not None]

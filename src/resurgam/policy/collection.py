"""What a prune of a repository removes: decisions without I/O (docs/ordering.md, sentences 53 to 61).

Rules:
1. A pack without a live chunk is removed.
2. A pack of which a quarter or more is dead is rewritten: copying costs at most three times what it frees.
3. Small packs are put together once there are sixteen of them; each daily backup of an application that hardly changes
   leaves two.
4. A pack in which damage was found is rewritten once all that backups need of it is whole elsewhere or in it; until
   then it stays as it is, whatever else holds.
5. While another run may be under way, young packs that nothing refers to are left alone.
6. Whoever would free more than a set share of everything is asked first. What a run left that died is no part of
   either, unless something younger goes that no such run has left: a backup may have used both (sentence 58).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from resurgam.repository.tombstones import Stamp

# Intents and unreferenced packs younger than this make a prune patient.
POLITE = timedelta(days=2)
PATIENCE = timedelta(days=1)
_DEAD_SHARE = 1 / 4
_SMALL = 4 << 20
_MANY_SMALL = 16
# By how much this machine's clock and the store's may differ before no age is believed.
_CLOCKS = timedelta(hours=1)


# Nothing damaged; damage, none of it in use; something in use is damaged; sealed to an older epoch's key.
Health = Literal["whole", "damaged", "hurt", "outdated"]


@dataclass(frozen=True, slots=True)
class PackFacts:
    """A listed pack without a tombstone: its bytes, those of live and of dead blobs, its age by the store's clock;
    whether a run has `left` it that died."""

    pack: bytes
    size: int
    live: int
    dead: int
    age: timedelta
    health: Health = "whole"
    left: bool = False


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """`remove` hold nothing live; `rewrite` are copied first, `copied` bytes of them; `freed` bytes go in the end;
    `total` bytes are listed; `spared` packs are left alone for runs that may be under way. `left` bytes are of runs
    that died."""

    remove: tuple[bytes, ...]
    rewrite: tuple[bytes, ...]
    copied: int
    freed: int
    total: int
    spared: int
    left: int = 0

    @property
    def share(self) -> float:
        """Which share of the repository goes, but for what dead runs left."""
        return (self.freed - self.left) / (self.total - self.left) if self.total > self.left else 0.0


def plan_collection(packs: Iterable[PackFacts], *, running: bool) -> CollectionPlan:
    """The fate of each pack. `running`: another run's intent is younger than POLITE."""
    remove: list[PackFacts] = []
    rewrite: list[PackFacts] = []
    small: list[PackFacts] = []
    total = spared = 0
    for pack in packs:
        total += pack.size
        if not pack.live:
            if running and pack.age < POLITE:
                spared += 1
            else:
                remove.append(pack)
        elif pack.health == "hurt":
            continue
        elif pack.health != "whole" or pack.dead >= _DEAD_SHARE * pack.size:
            rewrite.append(pack)
        elif pack.size < _SMALL:
            small.append(pack)
    if len(small) >= _MANY_SMALL:
        rewrite += small
    copied = sum(pack.live for pack in rewrite)
    freed = sum(pack.size for pack in (*remove, *rewrite)) - copied
    names = tuple(pack.pack for pack in remove), tuple(pack.pack for pack in rewrite)
    return CollectionPlan(*names, copied, freed, total, spared, _left(remove))


def _left(remove: Iterable[PackFacts]) -> int:
    """Bytes that dead runs left, if what else goes is older."""
    left = [pack for pack in remove if pack.left]
    others = [pack.age for pack in remove if not pack.left]
    eldest = max((pack.age for pack in left), default=timedelta())
    return 0 if any(age < eldest for age in others) else sum(pack.size for pack in left)


def grace(*, running: bool) -> timedelta:
    """How long a tombstone must have stood, by the clocks, before its pack may go: politeness. (Until listings show it
    the prune waits itself.)"""
    return PATIENCE if running else timedelta()


def clocks_agree(now: Stamp) -> bool:
    """Whether the store's clock and this machine's tell about the same time."""
    return abs(now.stored_at - now.written_at) <= _CLOCKS.total_seconds()


def may_go(stamp: Stamp, now: Stamp, wait: timedelta) -> bool:
    """Whether a tombstone has stood for `wait`, whatever was done to the clocks (sentence 56)."""
    if not wait:
        return True
    seconds = wait.total_seconds()
    if stamp.boot and stamp.boot == now.boot:
        return now.since_boot - stamp.since_boot >= seconds
    by_store, by_machine = now.stored_at - stamp.stored_at, now.written_at - stamp.written_at
    if abs(by_store - by_machine) > _CLOCKS.total_seconds():
        return False
    return min(by_store, by_machine) >= seconds

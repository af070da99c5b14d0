"""A prune while clocks are wrong: the grace holds (docs/ordering.md, sentences 52 and 56)."""

from __future__ import annotations

import itertools

import pytest

from resurgam.operations.collection import CollectionResult
from resurgam.stores.object_memory import MemoryStore
from tests.repository.aftermath import Aftermath, SetClock
from tests.repository.simulated_world import EPOCH, inline
from tests.repository.simulation import DAY, TEN_YEARS, Scene, back_up, look

JUMPS = (DAY, -DAY, TEN_YEARS, -TEN_YEARS)
INTENT = "intents/" + "ab" * 16
AFTER = Aftermath(variant=1)


class Clocks:
    """A store, whose clock is `store` seconds ahead, and a machine, whose clock is `machine` ahead, at a true time."""

    def __init__(self) -> None:
        self.now, self.machine, self.ahead = EPOCH, 0.0, 0.0
        self.store = MemoryStore(lambda: self.now + self.ahead)
        self.store.objects = {key: (data, EPOCH - 9 * DAY) for key, data in AFTER.objects.items()}
        self.made: Scene = AFTER.scene()

    def prune(self, boot: str = "boot") -> CollectionResult:
        """`since_boot` is the true time: nobody can set it."""
        clock = _Machine(self, boot)
        return self.made.collect(self.store, clock)


class _Machine(SetClock):
    def __init__(self, clocks: Clocks, boot: str) -> None:
        super().__init__(clocks.now + clocks.machine, boot)
        self.true = clocks.now

    def stamp(self, store: object) -> object:  # type: ignore[override]
        found = super().stamp(store)  # type: ignore[arg-type]
        return type(found)(found.stored_at, found.written_at, found.boot, self.true)


def somebody_runs(clocks: Clocks) -> None:
    clocks.store.put(INTENT, b"an intent")


@pytest.mark.parametrize(("whose", "jump"), list(itertools.product(("store", "machine"), JUMPS)))
def test_56_a_clock_that_jumps_ends_no_grace_early(whose: str, jump: float) -> None:
    with inline("clocks"):
        clocks = Clocks()
        somebody_runs(clocks)
        first = clocks.prune()
        assert first.waiting and not first.deleted_packs
        clocks.now += 3600
        if whose == "store":
            clocks.ahead = jump
        else:
            clocks.machine = jump
        for boot in ("boot", "another boot"):
            second = clocks.prune(boot)
            assert second.waiting and not second.deleted_packs, boot
        assert any(key == INTENT for key in clocks.store.objects)
        clocks.now += 1.1 * DAY
        third = clocks.prune()  # by the clock that nobody can set, a day has passed
        assert third.deleted_packs
        clocks.ahead = clocks.machine = 0.0
        look(clocks.made, clocks.store)
        clocks.made.committed[back_up(clocks.made.opened(clocks.store), 8, AFTER.blocks[8], clocks.now)] = 8
        clocks.now += 3 * DAY
        clocks.prune()
        look(clocks.made, clocks.store)
        assert not any(key == INTENT for key in clocks.store.objects)


@pytest.mark.parametrize("jump", JUMPS)
def test_56_after_a_reboot_both_clocks_must_agree(jump: float) -> None:
    with inline("clocks"):
        clocks = Clocks()
        somebody_runs(clocks)
        assert clocks.prune().waiting
        clocks.now += 1.1 * DAY
        clocks.machine = jump
        assert not clocks.prune("another boot").deleted_packs
        clocks.machine = 0.0
        assert clocks.prune("another boot").deleted_packs

"""What must hold after a run (works.py) was cut off, wherever it was: judged on what the store holds then.

Every backup that is committed gives back every byte, and those that were told of are among them; the same run again,
the next backup and the next prune succeed unattended; after them nothing is there that nobody needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from resurgam.keys.secrets import Secrets
from resurgam.repository.tombstones import Stamp
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import ObjectStore
from tests.repository.keyed import ring_objects
from tests.repository.scenes import secrets_of
from tests.repository.simulated_world import EPOCH, World
from tests.repository.simulation import DAY, Scene, back_up, history, look, refuse_leaks

NEXT, LAST = 8, 9
_NEW_BLOCKS = {5: [0, 2, 3, *range(12, 40)], NEXT: [1, 2, 8], LAST: [4, 5]}


@dataclass
class SetClock:
    """Stands where it is set; waiting puts it on. In place of a Clock where tests/simulated_world.py's `inline` is."""

    at: float = EPOCH
    boot: str = "boot"

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds

    def stamp(self, store: ObjectStore) -> Stamp:
        return Stamp(store.time(), self.at, self.boot, self.at)


def _fixed(_: ObjectStore) -> Callable[[bytes], Secrets]:
    return secrets_of


@dataclass
class Aftermath:
    """Judges; of equal contents of the store only the first. `unlock`: how the repository is opened; unless by the
    fixed keys, it has a key ring. `again` does once more what was cut off, and says what it committed."""

    variant: int = 1
    unlock: Callable[[ObjectStore], Callable[[bytes], Secrets]] = _fixed
    again: Callable[[Aftermath, ObjectStore], dict[bytes, int]] | None = None
    judged: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        objects, blocks, self.manifests = history(self.variant)
        repository = bytes.fromhex(json.loads(objects["config"])["id"])
        self.objects = objects if self.unlock is _fixed else {**objects, **ring_objects(repository)}
        self.blocks = {**blocks, **_NEW_BLOCKS}

    def scene(self) -> Scene:
        made = Scene(0, World(0), self.blocks, unlock=self.unlock)
        made.deleted = {self.manifests[0]} if self.variant % 2 else set()
        made.committed = dict(zip(self.manifests, (1, 2, 3), strict=True))
        return made

    def problem(self, objects: Mapping[str, bytes], told: Mapping[bytes, int], deleted: set[bytes]) -> str:
        """What does not hold; `told`: manifests by number that were said to be committed."""
        key = hash((frozenset(objects.items()), frozenset(told), frozenset(deleted)))
        if key not in self.judged:
            self.judged[key] = self._problem(objects, told, deleted)
        return self.judged[key]

    def _problem(self, objects: Mapping[str, bytes], told: Mapping[bytes, int], deleted: set[bytes]) -> str:
        made = self.scene()
        made.committed.update(told)
        made.deleted |= deleted
        clock = SetClock(EPOCH + 3 * DAY)
        store = MemoryStore(lambda: clock.at)
        store.objects = {key: (data, EPOCH) for key, data in objects.items()}
        what = "looking"
        try:
            look(made, store)
            if self.again is not None:
                what = "the same again"
                made.committed.update(self.again(self, store))
                look(made, store)
            what = "the next backup"
            made.committed[back_up(made.opened(store), NEXT, self.blocks[NEXT], clock.at)] = NEXT
            what = "the next prune"
            made.collect(store, clock)
            look(made, store)
            what = "what is left"
            clock.at += 3 * DAY
            made.collect(store, clock)
            look(made, store)
            refuse_leaks(made, store)
        except Exception as error:  # noqa: BLE001 - told with its state
            return f"{what}: {error!r}"
        return ""

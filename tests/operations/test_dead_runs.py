"""What dead runs left goes unattended, also if it is most of a repository, and a shortened listing still stops a prune
(docs/ordering.md, sentences 58 and 60)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resurgam.errors import CollectionRefused
from resurgam.keys.secrets import Secrets
from resurgam.operations.collection import CollectionResult, Limits, collect, foresee
from resurgam.operations.progress import Silent
from resurgam.repository.repository import Repository
from resurgam.stores.object_memory import MemoryStore
from tests.repository.aftermath import SetClock
from tests.repository.faulty_store import Fault, FaultyStore, Killed, Plan
from tests.repository.scenes import contents, new_repository, sample_dump, secrets_of, take
from tests.repository.simulated_world import inline
from tests.repository.simulation import DAY

SMALL, LARGE = sample_dump(1, 100_000), sample_dump(2, 6 << 20)


class Scene:
    """A small backup, and a large one that was killed before its manifest; then the time goes on."""

    def __init__(self, keys: object = secrets_of) -> None:
        self.clock = SetClock()
        self.store = MemoryStore(lambda: self.clock.at)
        self.first = take(new_repository(self.store), 0, dump=SMALL)
        self.clock.at += 3600
        counting = FaultyStore(_copy(self.store))
        take(Repository.open(counting, keys), 1, dump=LARGE)  # type: ignore[arg-type]
        manifest = next(at for at, (_, key) in enumerate(counting.writes) if key.startswith("manifests/"))
        dying = FaultyStore(self.store, Plan(manifest, Fault.KILL_BEFORE))
        with pytest.raises(Killed):
            take(Repository.open(dying, keys), 1, dump=LARGE)  # type: ignore[arg-type]

    def prune(self) -> CollectionResult:
        with inline(f"prune {self.clock.at} {len(self.store.objects)}"):
            return collect(self.opened(), Limits(), clock=self.clock, progress=Silent())

    def foreseen(self) -> CollectionResult:
        with inline("prune"):
            return foresee(self.opened(), Limits(), frozenset(), clock=self.clock, progress=Silent(), refuse=True)

    def opened(self) -> Repository:
        return Repository.open(self.store, secrets_of)

    def count(self, folder: str) -> int:
        return sum(key.startswith(folder) for key in self.store.objects)


def _copy(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore(store.time)
    copied.objects = dict(store.objects)
    return copied


def test_58_what_a_dead_run_left_goes_unasked_though_it_is_most_of_the_repository() -> None:
    scene = Scene()
    scene.clock.at += DAY
    assert scene.prune().plan.spared  # it may still run
    scene.clock.at += 2 * DAY
    foreseen = scene.foreseen().plan
    assert foreseen.left == foreseen.freed > foreseen.total / 2 and foreseen.share == 0.0
    assert scene.prune().freed == foreseen.freed
    assert scene.count("intents/") == 0
    assert contents(scene.opened(), scene.first)[b"database.sql"] == SMALL
    assert not scene.prune().freed


def test_58_a_prune_that_dies_leaves_the_next_what_tells_it() -> None:
    scene = Scene()
    scene.clock.at += 3 * DAY
    whole = _copy(scene.store)
    counting = FaultyStore(_copy(scene.store))
    with inline("prune"):
        collect(Repository.open(counting, secrets_of), Limits(), clock=scene.clock, progress=Silent())
    for at in range(len(counting.writes)):
        scene.store.objects = dict(whole.objects)
        dying = FaultyStore(scene.store, Plan(at, Fault.KILL_AFTER))
        with inline("dying prune"), pytest.raises(Killed):
            collect(Repository.open(dying, secrets_of), Limits(), clock=scene.clock, progress=Silent())
        scene.prune()
        assert scene.count("intents/") == 0 and scene.count("tombstones/") == 0
        assert contents(scene.opened(), scene.first)[b"database.sql"] == SMALL


@pytest.mark.parametrize("of_its_own", [b"", b"and something new"])
def test_58_a_listing_that_lacks_the_backup_that_took_it_over_stops_the_prune(of_its_own: bytes) -> None:
    scene = Scene()
    scene.clock.at += DAY
    later = take(scene.opened(), 2, dump=LARGE + of_its_own)
    scene.clock.at += 2 * DAY
    for folder in ("manifests", "outcomes"):
        del scene.store.objects[f"{folder}/{later.hex()}"]
    before = dict(scene.store.objects)
    with pytest.raises(CollectionRefused, match="more than 50 %"):
        scene.foreseen()
    with pytest.raises(CollectionRefused, match="more than 50 %"):
        scene.prune()
    assert scene.store.objects == before


def test_58_the_word_of_a_write_only_host_does_not_count() -> None:
    def writes_only(repository: bytes) -> Secrets:
        return replace(secrets_of(repository), auth_full=None, ring=None, private={})

    scene = Scene(writes_only)
    scene.clock.at += 3 * DAY
    with pytest.raises(CollectionRefused, match="more than 50 %"):
        scene.prune()

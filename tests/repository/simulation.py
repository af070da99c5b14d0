"""Seeded runs of the real code on a virtual clock: backups, prunes, a deletion and a restore at once.

    PYTHONHASHSEED=0 python -m tests.repository.simulation FIRST LAST       # tells which seeds fail, and why
    PYTHONHASHSEED=0 python -m tests.repository.simulation --log SEED       # every call of that run
    PYTHONHASHSEED=0 python -m tests.repository.simulation --bad NAME FIRST LAST    # of known_bad.py: the first failure

After each run: who said that it was committed gives back every byte; the next backup and the next prune succeed
unattended; and in the end a prune leaves what is referenced, and nothing else.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, partial
from unittest import mock

from resurgam.archive.entry import Entry, Identity, Kind, Offer
from resurgam.clock import Clock
from resurgam.errors import ArchiveError, ObjectMissing, ResurgamError
from resurgam.keys.secrets import Secrets
from resurgam.operations import collection
from resurgam.operations.collection import CollectionResult, Limits, collect
from resurgam.operations.progress import Silent
from resurgam.repository.index_usage import usage
from resurgam.repository.records import Record, bodies
from resurgam.repository.repository import Repository
from resurgam.repository.run import About, backing_up
from resurgam.stores.object_memory import MemoryStore
from resurgam.stores.objects import ObjectStore
from tests.repository.faulty_store import Killed
from tests.repository.scenes import contents, new_repository, secrets_of
from tests.repository.simulated_world import EPOCH, Actor, SimulatedStore, VirtualClock, World, inline

DAY = 86_400.0
TEN_YEARS = 3652 * DAY
PACK = 6 << 10
_ACCEPT = Limits(accept=True)
DUMP = b"SELECT 1;\n\n--\n-- PostgreSQL database dump complete\n--\n\n"  # of an imported backup; others have none
_BLOCKS = [random.Random(number).randbytes(1500) for number in range(40)]


def back_up(repository: Repository, number: int, blocks: list[int], now: float) -> bytes:
    """A small backup of that number whose files are those blocks, a chunk each; answers the manifest's id."""
    name, at = f"app_backup_{number:08d}_000000", int(now) * 1_000_000_000
    backups = sorted(repository.backups()[0], key=lambda one: (one.manifest.head.sequence, one.id))
    options = {"mtime_ns": at, "now_ns": at, "last": backups[-1] if backups else None, "pack_size": PACK}
    with backing_up(repository, name, app="app", **options) as run:  # type: ignore[arg-type]
        run.writer.add(Entry(b"files", Kind.FOLDER, 0o755, mtime_ns=at))
        for block in blocks:
            entry = Entry(b"files/block%d" % block, Kind.FILE, 0o600, mtime_ns=5)
            run.writer.add_late(entry, [_BLOCKS[block]])
        for small in range(3):
            entry = Entry(b"files/small%d" % small, Kind.FILE, 0o600, mtime_ns=5, size=7)
            run.writer.offer(Offer(entry, Identity(5, small), partial(_small, entry), lambda: False))
        run.writer.settle()
        run.writer.finish(b'{"backup_name": "%s"}' % name.encode(), at)
        about = About(name, "app", datetime.fromtimestamp(now, UTC), number, 1, "host", "0")
        return run.commit(about, b'{"backup_name": "%s"}' % name.encode())


def _small(entry: Entry) -> tuple[Entry, list[bytes]]:
    return entry, [b"content"]


def wanted(blocks: list[int]) -> dict[bytes, bytes]:
    return {
        **{b"files/block%d" % block: _BLOCKS[block] for block in blocks},
        **{b"files/small%d" % small: b"content" for small in range(3)},
    }


def whole(found: dict[bytes, bytes], blocks: list[int]) -> bool:
    besides = {b"backup_metadata.json", b"database.sql"}
    files = {path: data for path, data in found.items() if path not in besides}
    return files == wanted(blocks) and found.get(b"database.sql", DUMP) == DUMP


@cache
def history(variant: int) -> tuple[dict[str, bytes], dict[int, list[int]], list[bytes]]:
    """A repository with three backups, one deleted since, and what a dead run left; blocks by number, manifests."""
    with inline(f"history {variant}"):
        randomness = random.Random(variant)
        repository = new_repository(MemoryStore())
        blocks = {number: sorted(randomness.sample(range(12), 5)) for number in range(1, 5)}
        manifests = [back_up(repository, number, blocks[number], EPOCH - 9 * DAY) for number in (1, 2, 3)]
        if variant % 2:
            repository.delete([manifests[0]])
        if variant % 3:
            store = repository.store
            assert isinstance(store, MemoryStore)
            kept = dict(store.objects)
            back_up(repository, 4, blocks[4], EPOCH - 8 * DAY)
            left = ("packs/", "indexes/") if variant % 3 == 1 else ("packs/", "indexes/", "manifests/", "intents/")
            store.objects = kept | {key: one for key, one in store.objects.items() if key.startswith(left)}
        assert isinstance(repository.store, MemoryStore)
        return {key: data for key, (data, _) in repository.store.objects.items()}, blocks, manifests


@dataclass
class Scene:
    """One run: what was asked of whom, and what came of it."""

    seed: int
    world: World
    blocks: dict[int, list[int]]
    actors: list[Actor] = field(default_factory=list)
    deleted: set[bytes] = field(default_factory=set)  # or perhaps deleted
    committed: dict[bytes, int] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    problem: str = ""
    polite: bool = True  # else prunes see no intent: safety must not rest on them
    unlock: Callable[[ObjectStore], Callable[[bytes], Secrets]] = lambda _: secrets_of

    def opened(self, store: ObjectStore) -> Repository:
        return Repository.open(store, self.unlock(store))

    def backup(self, number: int) -> Callable[[SimulatedStore, VirtualClock], object]:
        def work(store: SimulatedStore, clock: VirtualClock) -> object:
            manifest = back_up(self.opened(store), number, self.blocks[number], clock.now().timestamp())
            self.committed[manifest] = number
            return manifest

        return work

    def prune(self, times: int, pause: float) -> Callable[[SimulatedStore, VirtualClock], object]:
        def work(store: SimulatedStore, clock: VirtualClock) -> object:
            for _ in range(times):
                result = self.collect(store, clock)
                clock.sleep(pause)
            return result

        return work

    def collect(self, store: ObjectStore, clock: Clock) -> CollectionResult:
        return collect(self.opened(store), _ACCEPT, clock=clock, progress=Silent(), pack_size=PACK)

    def delete(self, manifest: bytes) -> Callable[[SimulatedStore, VirtualClock], object]:
        def work(store: SimulatedStore, clock: VirtualClock) -> object:
            self.deleted.add(manifest)
            self.opened(store).delete([manifest])
            return None

        return work

    def restore(self, manifest: bytes, number: int) -> Callable[[SimulatedStore, VirtualClock], object]:
        def work(store: SimulatedStore, clock: VirtualClock) -> object:
            try:
                found = contents(self.opened(store), manifest)
            except (ArchiveError, ObjectMissing, StopIteration) as error:
                assert manifest in self.deleted, f"a restore failed although nobody deleted its backup: {error!r}"
                return None
            assert whole(found, self.blocks[number]), "a restore gave back other bytes"
            return None

        return work


def scene(seed: int) -> Scene:
    """The actors and the mishaps of a seed."""
    randomness = random.Random(f"scene {seed}")
    objects, blocks, manifests = history(randomness.randrange(12))
    world = World(seed, randomness.choice((0.0, 0.0, 0.0, 30.0, 400.0)), randomness.choice((0.0, 0.3, 0.7, 0.95)))
    old = 0.01 if randomness.random() < 0.2 else 1.0
    world.put_aged(objects, lambda key: 9 * DAY * old)
    made = Scene(seed, world, dict(blocks))
    made.polite = randomness.random() < 0.6
    for number in (5, 6, 7, 8, 9):
        made.blocks[number] = sorted(randomness.sample(range(12), randomness.choice((3, 5, 8))))
    there = [one for number, one in enumerate(manifests) if f"manifests/{one.hex()}" in objects]
    victim = randomness.choice(there)
    reading = randomness.choice(there)
    works = {
        "backup 5": made.backup(5),
        "backup 6": made.backup(6),
        "prune 1": made.prune(randomness.choice((1, 1, 2, 3)), randomness.choice((60.0, 1.2 * DAY, 2.1 * DAY))),
        "delete": made.delete(victim),
        "restore": made.restore(reading, manifests.index(reading) + 1),
    }
    if randomness.random() < 0.6:
        works["prune 2"] = made.prune(randomness.choice((1, 2)), 1.1 * DAY)
    for name, work in works.items():
        actor = Actor(name, randomness.choice(world.machines), work)
        if randomness.random() < 0.15:
            actor.kill_at = randomness.randrange(90)
        for _ in range(randomness.choice((0, 0, 1, 2))):
            actor.pauses[randomness.randrange(80)] = randomness.choice((600.0, 0.6 * DAY, 1.5 * DAY, 3 * DAY, 9 * DAY))
        if randomness.random() < 0.3:
            actor.late_pauses[randomness.randrange(9)] = randomness.choice((0.6 * DAY, 3 * DAY, 9 * DAY))
        actor.wake = randomness.choice((0.0, 0.0, 10.0, 100.0, 2.5 * DAY))
        made.actors.append(actor)
    for _ in range(randomness.choice((0, 0, 0, 1, 2))):
        jump = randomness.choice((DAY, -DAY, TEN_YEARS, -TEN_YEARS))
        clock = randomness.choice(("store", "a", "b", "all"))
        world.events.append((randomness.randrange(400), partial(_jump, world, clock, jump)))
    return made


def _jump(world: World, clock: str, seconds: float) -> None:
    world.log.append(f"{world.now:12.1f} the clock of {clock} goes {seconds:+.0f} s")
    if clock in ("store", "all"):
        world.store_skew += seconds
    for machine in world.machines:
        if clock in (machine.name, "all"):
            machine.skew += seconds


_FORGIVEN = (Killed, ResurgamError)


def play(seed: int) -> Scene:
    """One run, and in `problem` what does not hold after it."""
    with inline(seed):
        made = scene(seed)
        believed = collection._busy if made.polite else lambda repository, clock: False
        try:
            with mock.patch.object(collection, "_busy", believed):
                _play(made)
        except AssertionError as error:
            frames = traceback.extract_tb(error.__cause__.__traceback__)[-4:] if error.__cause__ else []
            where = " < ".join(f"{one.name}:{one.lineno}" for one in reversed(frames))
            made.problem = f"seed {seed}: {error} ({where})"
        return made


def _play(made: Scene) -> None:
    world = made.world
    world.run(made.actors)
    for actor in made.actors:
        made.outcomes[f"{actor.name.split()[0]} {type(actor.error).__name__ if actor.error else 'well'}"] += 1
        if actor.error is not None and not isinstance(actor.error, _FORGIVEN):
            raise AssertionError(f"{actor.name} died of {actor.error!r}") from actor.error
    _after(made, "backup 7", made.backup(7))
    _after(made, "prune", made.prune(1, 0.0))
    _after(made, "look", lambda store, clock: look(made, store))
    world.now += 3 * DAY
    world.store_skew = 0.0
    for machine in world.machines:
        machine.skew = 0.0
    _after(made, "backup 8", made.backup(8))
    for _ in range(2):
        world.now += 3 * DAY
        _after(made, "prune", made.prune(1, 0.0))
    _after(made, "look", lambda store, clock: look(made, store))
    _after(made, "leaks", lambda store, clock: refuse_leaks(made, store))


def _after(made: Scene, name: str, work: Callable[[SimulatedStore, VirtualClock], object]) -> None:
    made.world.now += 3600.0  # every listing shows what was
    actor = Actor(f"afterwards: {name}", made.world.machines[0], work)
    made.world.run([actor])
    if actor.error is not None:
        raise AssertionError(f"{actor.name}: {actor.error!r}") from actor.error


def look(made: Scene, store: ObjectStore) -> None:
    """Every committed backup there is gives back every byte; every one that said so is there."""
    repository = made.opened(store)
    backups, unreadable = repository.backups()
    assert not unreadable
    there = {one.manifest.head.sequence for one in backups}  # a rotation gives manifests other ids
    for manifest, number in made.committed.items():
        assert number in there or manifest in made.deleted, f"backup {number} is not there"
    for one in backups:
        blocks = made.blocks[one.manifest.head.sequence]
        assert whole(contents(repository, one.id), blocks), f"{one.manifest.head.name} gives other bytes"


def refuse_leaks(made: Scene, store: ObjectStore) -> None:
    """Everything there is is needed."""
    repository = made.opened(store)
    standing = repository.standing()
    assert not standing.undecided and not standing.abandoned and not standing.leftover and not standing.orphaned
    keys = [one.key for one in store.list()]
    assert not [key for key in keys if key.startswith(("tombstones/", "intents/"))]
    ids = []
    for manifest in standing.committed:
        found = repository.manifest(manifest)
        ids += [chunk for chunk, _ in found.list_chunks()]
        for body in bodies(repository.reader.blocks(found.list_chunks())):
            ids += Record.decode(body).ids()
    used = usage(repository.index, ids)
    assert not used.missing
    dead = [pack.hex() for pack in repository.index.packs if not used.live_bytes.get(pack)]
    assert not dead, f"packs that nobody needs: {dead}"
    listed = {key.partition("/")[2] for key in keys if key.startswith("indexes/")}
    gone = {one.hex() for one in standing.removed.indexes} & listed
    assert not gone, f"indexes that were replaced: {gone}"


def play_all(seeds: Iterable[int]) -> tuple[list[str], str]:
    """Problems, and what was done in words."""
    outcomes: Counter[str] = Counter()
    problems, runs, calls, begun = [], 0, 0, time.perf_counter()
    for seed in seeds:
        made = play(seed)
        runs, calls, outcomes = runs + 1, calls + made.world.calls, outcomes + made.outcomes
        if made.problem:
            problems.append(made.problem)
        if runs % 250 == 0:
            print(f"{runs} runs, {len(problems)} failed", file=sys.stderr, flush=True)
    ways = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    seconds = time.perf_counter() - begun
    return problems, f"{runs} runs, {calls} calls of the store, {seconds:.0f} s, {len(problems)} failed; {ways}"


def main(arguments: list[str]) -> int:
    if arguments[0] == "--log":
        made = play(int(arguments[1]))
        print("\n".join([*made.world.log, made.problem]))
        return 1 if made.problem else 0
    if arguments[0] == "--bad":
        from tests.repository.known_bad import KNOWN_BAD

        with KNOWN_BAD[arguments[1]]():
            for seed in range(*map(int, arguments[2:])):
                if problem := play(seed).problem:
                    print(problem)
                    return 1
        return 0
    problems, told = play_all(range(*map(int, arguments)))
    print("\n".join([*problems, told]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

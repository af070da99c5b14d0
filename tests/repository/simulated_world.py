"""A store, clocks and processes that exist in one thread's order only: whose turn it is, a seed decides.

Each actor runs in a thread of its own, and only while it holds the baton, which it gives back before every call of its
store. The repository's own worker threads are made to run in place (`inline`), so that a seed always gives the same
run (with PYTHONHASHSEED=0: some orders are those of sets).
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from resurgam.errors import ObjectExists, ObjectMissing
from resurgam.operations import collection
from resurgam.pipeline import workers
from resurgam.repository import index_reading, layout, packing
from resurgam.repository.tombstones import Stamp
from resurgam.stores.objects import StoredObject, checked
from tests.repository.faulty_store import Killed

EPOCH = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
_Version = tuple[float, bytes | None, float]  # since when; the bytes, None: not there; stored_at


@dataclass(eq=False)
class Machine:
    """`skew`: seconds by which its clock is ahead; its boot time is the world's."""

    name: str
    skew: float = 0.0


@dataclass(eq=False)
class Actor:
    """A process: `work` gets its store and its clock. `kill_at`, `pauses`: numbers of its store's calls; `late_pauses`
    count from the put of its manifest."""

    name: str
    machine: Machine
    work: Callable[[SimulatedStore, VirtualClock], object]
    kill_at: int | None = None
    pauses: dict[int, float] = field(default_factory=dict)
    late_pauses: dict[int, float] = field(default_factory=dict)
    calls: int = 0
    wake: float = 0.0
    done: bool = False
    dead: bool = False
    result: object = None
    error: BaseException | None = None
    baton: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class World:
    """`staleness`: how far a listing may lag, each key by itself; `sticky`: how likely an actor goes on at once."""

    def __init__(self, seed: object, staleness: float = 0.0, sticky: float = 0.5) -> None:
        self.randomness = random.Random(f"world {seed}")
        self.staleness, self.sticky = staleness, sticky
        self.now = 0.0
        self.store_skew = 0.0
        self.machines = [Machine("a"), Machine("b")]
        self.versions: dict[str, list[_Version]] = {}
        self.events: list[tuple[int, Callable[[], None]]] = []  # after so many calls of all
        self.calls = 0
        self.log: list[str] = []
        self._back = threading.Semaphore(0)

    def put_aged(self, objects: dict[str, bytes], ages: Callable[[str], float]) -> None:
        """What was there before, stored so many seconds ago."""
        for key, data in objects.items():
            self.versions[key] = [(-1e12, data, EPOCH - ages(key))]

    def objects(self) -> dict[str, bytes]:
        """What is there now."""
        return {key: found[-1][1] for key, found in self.versions.items() if found[-1][1] is not None}

    def run(self, actors: list[Actor]) -> None:
        """Until all have ended; AssertionError if one hangs."""
        threads = [threading.Thread(target=self._live, args=(one,), name=one.name, daemon=True) for one in actors]
        for thread in threads:
            thread.start()
        last: Actor | None = None
        while waiting := [one for one in actors if not one.done]:
            awake = [one for one in waiting if one.wake <= self.now]
            if not awake:
                self.now = min(one.wake for one in waiting)
                continue
            if last not in awake or self.randomness.random() >= self.sticky:
                last = self.randomness.choice(awake)
            assert last is not None
            self.now += self.randomness.expovariate(1.0)
            last.baton.release()
            assert self._back.acquire(timeout=60), f"{last.name} hangs"
        for thread in threads:
            thread.join()

    def turn(self, actor: Actor, what: str) -> None:
        """Called by an actor before anything that others can see: gives the baton away until it comes back."""
        if actor.dead:
            raise Killed
        self._back.release()
        actor.baton.acquire()
        pause = actor.pauses.pop(actor.calls, 0.0)
        actor.calls += 1
        self.calls += 1
        if pause:
            self.log.append(f"{self.now:12.1f} {actor.name} stopped for {pause:.0f} s before {what}")
            self.sleep(actor, pause)
        for at, happen in self.events:
            if at == self.calls:
                happen()
        if what.startswith("put manifests/"):
            actor.pauses |= {actor.calls + at: pause for at, pause in actor.late_pauses.items()}
        self.log.append(f"{self.now:12.1f} {actor.name} {what}")
        if actor.calls - 1 == actor.kill_at:
            actor.dead = True
            if self.randomness.random() < 0.5:
                self.log.append(f"{self.now:12.1f} {actor.name} killed")
                raise Killed

    def sleep(self, actor: Actor, seconds: float) -> None:
        actor.wake = self.now + seconds
        self._back.release()
        actor.baton.acquire()

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        try:
            store = SimulatedStore(self, actor)
            actor.result = actor.work(store, VirtualClock(self, actor))
        except BaseException as error:  # noqa: BLE001 - judged by the test
            actor.error = error
        actor.done = True
        self.log.append(f"{self.now:12.1f} {actor.name} ended {actor.error!r}")
        self._back.release()


class SimulatedStore:
    """A world's objects as one actor reaches them: an ObjectStore."""

    url = "simulated:"

    def __init__(self, world: World, actor: Actor) -> None:
        self._world, self.actor = world, actor

    @property
    def staleness(self) -> float:
        return self._world.staleness

    def prepare(self) -> None:
        pass

    def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        with self._call(f"put {checked(key)}"):
            content, versions = bytes(data), self._world.versions.setdefault(key, [(-1e12, None, 0.0)])
            there = versions[-1][1]
            if there is None:
                versions.append((self._world.now, content, self.time()))
            elif there != content:
                raise ObjectExists(f"There is an object {key} already.")

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._call(f"get {checked(key)}"):
            there = self._world.versions.get(key, [(0.0, None, 0.0)])[-1][1]
            if there is None:
                raise ObjectMissing(f"There is no object {key}.")
            return there[offset:] if length is None else there[offset : offset + length]

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """The names before a border as they are first, the others a moment later: no store lists all at once."""
        border = f"{prefix}{self._world.randomness.randrange(16):x}"
        with self._call(f"list {prefix}"):
            early = [one for one in _listed(self._world, prefix) if one.key < border]
        with self._call(f"list {prefix} from {border}"):
            late = [one for one in _listed(self._world, prefix) if one.key >= border]
        return iter(early + late)

    def delete(self, key: str) -> None:
        with self._call(f"delete {checked(key)}"):
            versions = self._world.versions.get(key)
            if versions is not None and versions[-1][1] is not None:
                versions.append((self._world.now, None, 0.0))

    def time(self) -> float:
        return EPOCH + self._world.now + self._world.store_skew

    def sweep(self) -> int:
        return 0

    def free_bytes(self) -> int | None:
        return None

    def close(self) -> None:
        pass

    @contextmanager
    def _call(self, what: str) -> Iterator[None]:
        self._world.turn(self.actor, what)
        yield
        if self.actor.dead:
            self._world.log.append(f"{self._world.now:12.1f} {self.actor.name} killed after it")
            raise Killed


def _listed(world: World, prefix: str) -> list[StoredObject]:
    found = []
    for key in sorted(world.versions):
        if key.startswith(prefix):
            lag = world.staleness * world.randomness.choice((0.0, world.randomness.random(), 0.999))
            seen = next(one for one in reversed(world.versions[key]) if one[0] <= world.now - lag)
            if seen[1] is not None:
                found.append(StoredObject(key, len(seen[1]), seen[2]))
    return found


class VirtualClock:
    """One machine's clock, which waits by letting others go on."""

    def __init__(self, world: World, actor: Actor) -> None:
        self._world, self._actor = world, actor

    def now(self) -> datetime:
        return datetime.fromtimestamp(EPOCH + self._world.now + self._actor.machine.skew, UTC)

    def monotonic(self) -> float:
        return self._world.now

    def sleep(self, seconds: float) -> None:
        self._world.sleep(self._actor, seconds)

    def stamp(self, store: SimulatedStore) -> Stamp:
        """In place of tombstones.stamp_now, which asks the real machine."""
        return Stamp(store.time(), self.now().timestamp(), self._actor.machine.name, self._world.now)


class _Inline:
    """A ThreadPoolExecutor that does the work where it is submitted."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function: Callable[..., Any], *arguments: object) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised by result()
            future.set_exception(error)
        return future

    def map(self, function: Callable[..., Any], *pieces: Iterable[Any]) -> Iterator[Any]:
        return iter([function(*one) for one in zip(*pieces, strict=False)])

    def shutdown(self, **_: object) -> None:
        pass

    def __enter__(self) -> _Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def inline(seed: object) -> Iterator[None]:
    """Within it the repository starts no thread, draws ids from the seed, and takes its stamps from virtual clocks."""
    ids = random.Random(f"ids {seed}")
    with (
        mock.patch.object(workers, "ThreadPoolExecutor", _Inline),
        mock.patch.object(packing, "ThreadPoolExecutor", _Inline),
        mock.patch.object(index_reading, "ThreadPoolExecutor", _Inline),
        mock.patch.object(layout, "secrets", SimpleNamespace(token_bytes=ids.randbytes)),
        mock.patch.object(collection, "stamp_now", lambda store, clock: clock.stamp(store)),
    ):
        yield

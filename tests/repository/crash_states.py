"""The states a disk may be in after a crash, worked out from a trace. (crashes.py has the rules.)"""

from __future__ import annotations

import enum
import itertools
import math
import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from resurgam.stores.object_memory import MemoryStore
from tests.repository.crash_disk import Disk, Operation, Rename, Sync, Write

_SUBSETS = 50


class Fate(enum.IntEnum):
    """What became of an operation that was not durable. The last two are a write's alone."""

    KEPT = 0
    DROPPED = 1
    CUT = 2  # the first half
    ZEROS = 3  # the length, and not the bytes


@dataclass(slots=True, eq=False)
class Step:
    """A put of `data`, or a delete (None), of a watched store.

    `began` and `ended` count the operations before it; `ended` is None if it did not return, or raised.
    """

    key: str
    data: bytes | None
    began: int
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    what: str
    at: int


class Traced(Protocol):
    """Of a trace, what states need."""

    root: Path
    before: Disk
    operations: list[Operation]
    steps: list[Step]
    marks: list[Mark]


class Moment:
    """When the crash came: after the first `prefix` operations. All states of one moment share it."""

    def __init__(self, trace: Traced, prefix: int) -> None:
        self.trace = trace
        self.prefix = prefix

    @cached_property
    def acknowledged(self) -> list[Step]:
        """The steps that had returned before, in the order in which they did."""
        done = [(step.ended, step) for step in self.trace.steps if step.ended is not None and step.ended <= self.prefix]
        return [step for _, step in sorted(done, key=lambda one: one[0])]

    @cached_property
    def under_way(self) -> list[Step]:
        """The steps that had begun, and not returned."""
        begun = (step for step in self.trace.steps if step.began <= self.prefix)
        return [step for step in begun if step.ended is None or step.ended > self.prefix]

    @cached_property
    def marks(self) -> list[str]:
        return [mark.what for mark in self.trace.marks if mark.at <= self.prefix]

    def allowed(self, before: Mapping[str, bytes]) -> dict[str, list[bytes | None]]:
        """What each key that a step touched may hold (None: it may be free)."""
        allowed: dict[str, list[bytes | None]] = {step.key: [step.data] for step in self.acknowledged}
        for step in self.under_way:
            allowed.setdefault(step.key, [before.get(step.key)]).append(step.data)
        return allowed


@dataclass(frozen=True, slots=True)
class CrashState:
    """The disk after a crash: `pending` are the numbers of the operations that were not durable, `fates` what became of
    them; `durable` is the disk without them."""

    moment: Moment
    pending: tuple[int, ...]
    fates: tuple[Fate, ...]
    durable: Disk

    @property
    def trace(self) -> Traced:
        return self.moment.trace

    @property
    def acknowledged(self) -> list[Step]:
        return self.moment.acknowledged

    @property
    def under_way(self) -> list[Step]:
        return self.moment.under_way

    @property
    def marks(self) -> list[str]:
        return self.moment.marks

    def disk(self) -> Disk:
        """All that is on it, of partial files too."""
        folders: dict[int, dict[str, int]] = {}
        files: dict[int, bytes] = {}
        made: dict[int, int] = {}
        for number, fate in zip(self.pending, self.fates, strict=True):
            apply_to(self.durable, self.trace.operations[number], fate, folders, files, made)
        return self.durable.changed(folders, files, made) if self.pending else self.durable

    def objects(self, folder: Path | None = None) -> dict[str, bytes]:
        """The objects of the folder store in `folder` (the trace's root without one); none if it is not there."""
        parts = self._parts(folder)
        if (at := self.durable.find(parts)) is not None:
            self.durable.below(at)  # which it remembers, for all the states of this moment
        return _objects(self.disk(), parts)

    def _parts(self, folder: Path | None) -> tuple[str, ...]:
        return () if folder is None else folder.relative_to(self.trace.root).parts

    def store(self, folder: Path | None = None, stored_at: float = 0.0) -> MemoryStore:
        """The same in memory."""
        store = MemoryStore()
        store.objects = {key: (data, stored_at) for key, data in self.objects(folder).items()}
        return store

    def materialise(self, target: Path) -> None:
        """All that is below the trace's root, as files in `target`, which is made if it is not there."""
        target.mkdir(exist_ok=True)
        self.disk().write_to(target)

    def broken_promises(self, folder: Path | None = None, foreign: Collection[str] = ()) -> list[str]:
        """What of sentence 41 does not hold, in words: an acknowledged put is there whole, an acknowledged delete is
        gone, whatever was not acknowledged is as before or as after, and nothing else changed.

        Steps on one key must not overlap. `foreign` are keys that somebody else wrote as he liked: they count from
        their first acknowledged step on.
        """
        before, objects = _objects(self.trace.before, self._parts(folder)), self.objects(folder)
        allowed = self.moment.allowed(before)
        excused = set(foreign) - {step.key for step in self.acknowledged}
        return [
            f"{key} {f'holds {len(objects[key])} bytes that it must not' if key in objects else 'is not there'}"
            for key in {**objects, **before, **allowed}
            if objects.get(key) not in allowed.get(key, [before.get(key)]) and key not in excused
        ]

    def __str__(self) -> str:
        lost = [
            f"{fate.name.lower()} {self.trace.operations[number]}"
            for number, fate in zip(self.pending, self.fates, strict=True)
            if fate is not Fate.KEPT
        ]
        prefix = self.moment.prefix
        last = self.trace.operations[prefix - 1] if prefix else "nothing"
        return f"crash after operation {prefix} ({last}); " + ("; ".join(lost) or "nothing lost")


def _objects(disk: Disk, parts: tuple[str, ...]) -> dict[str, bytes]:
    at = disk.find(parts)
    return {} if at is None else {key: disk.files.get(inode, b"") for key, inode in disk.below(at).items()}


def apply_to(
    disk: Disk,
    operation: Operation,
    fate: Fate,
    folders: dict[int, dict[str, int]],
    files: dict[int, bytes],
    made: dict[int, int],
) -> None:
    """Add what became of `operation` to the changes `folders`, `files` and `made` of `disk`."""
    if isinstance(operation, Rename):
        if operation.new_folder:
            ((_, inode),) = operation.changes
            assert inode is not None
            made[inode] = operation.folder
        if fate is not Fate.KEPT:
            return
        names = folders.get(operation.folder)
        if names is None:
            names = folders[operation.folder] = dict(disk.folders.get(operation.folder, {}))
        for name, target in operation.changes:
            if target is None:
                names.pop(name, None)
            else:
                names[name] = target
    elif isinstance(operation, Write) and fate is not Fate.DROPPED:
        content = files.get(operation.file, disk.files.get(operation.file, b""))
        data = operation.data
        if fate is Fate.CUT:
            data = data[: len(data) // 2]
        elif fate is Fate.ZEROS:
            data = bytes(len(data))
        begin = content[: operation.offset].ljust(operation.offset, b"\0")
        files[operation.file] = begin + data + content[operation.offset + len(data) :]


def states(trace: Traced, seed: int = 0) -> Iterator[CrashState]:
    """All the states that are visited, from the trace's begin to its end. The same for the same trace and seed."""
    randomness = random.Random(seed)
    disk = trace.before
    pending: tuple[int, ...] = ()
    for prefix in range(len(trace.operations) + 1):
        if prefix:
            disk, pending = _done(trace, disk, pending, prefix - 1)
        moment = Moment(trace, prefix)
        kinds = [isinstance(trace.operations[number], Write) for number in pending]
        for fates in _chosen_fates(kinds, randomness):
            yield CrashState(moment, pending, fates, disk)


def _done(trace: Traced, disk: Disk, pending: tuple[int, ...], number: int) -> tuple[Disk, tuple[int, ...]]:
    """Which disk is durable after operation `number`, and which operations are not."""
    operation = trace.operations[number]
    if not isinstance(operation, Sync):
        return disk, (*pending, number)
    folders: dict[int, dict[str, int]] = {}
    files: dict[int, bytes] = {}
    made: dict[int, int] = {}
    left = []
    for earlier in pending:
        if _changed_by(trace.operations[earlier]) == operation.inode:
            apply_to(disk, trace.operations[earlier], Fate.KEPT, folders, files, made)
        else:
            left.append(earlier)
    return disk.changed(folders, files, made), tuple(left)


def _changed_by(operation: Operation) -> int | None:
    if isinstance(operation, Rename):
        return operation.folder
    return operation.file if isinstance(operation, Write) else None


def _chosen_fates(are_writes: Sequence[bool], randomness: random.Random) -> Iterator[tuple[Fate, ...]]:
    choices = [tuple(Fate) if is_write else (Fate.KEPT, Fate.DROPPED) for is_write in are_writes]
    if math.prod(map(len, choices)) <= _SUBSETS:
        yield from itertools.product(*choices)
        return
    kept = [Fate.KEPT] * len(choices)
    chosen = {tuple(kept), tuple(choice[1] for choice in choices), tuple(choice[-1] for choice in choices)}
    for place, choice in enumerate(choices):
        chosen.update((*kept[:place], fate, *kept[place + 1 :]) for fate in choice[1:])
    for _ in range(_SUBSETS):
        chosen.add(tuple(map(randomness.choice, choices)))
    yield from sorted(chosen)

"""Free what no backup of a repository needs any more, beside running backups (docs/ordering.md, sentences 52 to 61).

The steps stand in `collect` in the order in which they must happen. Decisions are in policy/collection.py. Safety rests
on the order, never on a clock or an intent: those only make the prune polite.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from resurgam.clock import Clock
from resurgam.errors import (
    ArchiveError,
    CollectionRefused,
    DamagedError,
    ObjectExists,
    ObjectMissing,
    RepositoryError,
)
from resurgam.operations.collection_looks import Looks, used_by
from resurgam.operations.dead_runs import died_runs, written_by
from resurgam.operations.losses import listed_indexes
from resurgam.operations.pretended import sweep_pretended
from resurgam.operations.progress import Progress
from resurgam.operations.reencryption import outdated_packs, seal_manifests_anew
from resurgam.pipeline.workers import ordered_map, side_by_side
from resurgam.policy.collection import (
    POLITE,
    CollectionPlan,
    Health,
    PackFacts,
    clocks_agree,
    grace,
    may_go,
    plan_collection,
)
from resurgam.repository.findings import decode_checked, decode_damage
from resurgam.repository.index_usage import Usage
from resurgam.repository.layout import (
    CHECKED,
    DAMAGE,
    id_of,
    index_key,
    intent_key,
    manifest_key,
    new_id,
    outcome_key,
    pack_key,
    record_key,
    tombstone_key,
)
from resurgam.repository.manifests import ABANDONED
from resurgam.repository.packing import PACK_SIZE, Packing
from resurgam.repository.packs import PackEntry, blob_bytes
from resurgam.repository.reading import ChunkReader, OpenChunk
from resurgam.repository.removals import Removals, encode_removal, finish_removal
from resurgam.repository.repository import Repository
from resurgam.repository.run import intents
from resurgam.repository.sealing import Kind, Sealer
from resurgam.repository.texts import read_text
from resurgam.repository.tombstones import put_tombstones, read_tombstones, stamp_now

# More indexes than this are replaced by one, more records as well.
_MANY_INDEXES = 16
_MANY_RECORDS = 64
# Bytes of chunks, and chunks, that are read at once to be copied.
_BATCH = 4 << 20
_MOST_IN_BATCH = 256


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """What a prune of the repository did, or with `dry_run` would do. Sizes in bytes; `freed` is what went less what
    was `rewritten`; `waiting` packs have a tombstone whose grace is not over, or whose age no clock can tell for
    sure."""

    dry_run: bool
    plan: CollectionPlan
    deleted_packs: int
    freed: int
    waiting: int
    swept: int
    rewritten: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "dry_run": self.dry_run,
            "packs_to_remove": len(self.plan.remove),
            "packs_to_rewrite": len(self.plan.rewrite),
            "copied_bytes": self.plan.copied,
            "frees_bytes": self.plan.freed,
            "repository_bytes": self.plan.total,
            "spared_packs": self.plan.spared,
            "deleted_packs": self.deleted_packs,
            "freed_bytes": self.freed,
            "rewritten_bytes": self.rewritten,
            "waiting_packs": self.waiting,
            "swept": self.swept,
        }


@dataclass(frozen=True, slots=True)
class Limits:
    """`share`: percent of the repository's bytes, and of its backups, that may go unasked; `accept`: somebody was
    asked. `remembered`: manifests that this machine has seen committed and not deleted."""

    share: int = 50
    accept: bool = False
    remembered: frozenset[bytes] = frozenset()

    def refuse_much(self, plan: CollectionPlan, doomed: int, backups: int) -> None:
        """CollectionRefused if more goes than may go unasked, with `doomed` of so many backups (sentence 58).

        One backup that makes room for a newer one is no accident, however much of the bytes it had.
        """
        if self.accept or doomed == 1:
            return
        by_bytes, by_number = plan.share * 100 > self.share, doomed * 100 > self.share * backups
        if by_bytes or by_number:
            what = f"{plan.freed:,} of {plan.total:,} bytes" if by_bytes else f"{doomed} of {backups} backups"
            raise CollectionRefused(
                f"This would remove {what}, more than {self.share} %; nothing was removed.",
                "Look at it by `resurgam prune --dry-run`; if it is right, `resurgam prune --accept`.",
            )


def foresee(
    repository: Repository,
    limits: Limits,
    doomed: frozenset[bytes],
    *,
    clock: Clock,
    progress: Progress,
    refuse: bool,
) -> CollectionResult:
    """What `collect` would do once these backups are deleted; nothing is changed. With `refuse` it must be allowed to:
    CollectionRefused as there."""
    progress.phase("Looking at what the backups need")
    standing, used = Looks(repository, limits.remembered, clock).everything()
    if doomed:
        used = used_by(repository, standing, doomed)
    died = died_runs(repository, lambda: clocks_agree(stamp_now(repository.store, clock)))
    plan = _plan(repository, used, running(repository), died)
    if refuse:
        limits.refuse_much(plan, len(doomed), len(standing.committed))
    return CollectionResult(True, plan, 0, 0, len(read_tombstones(repository.store, repository.opener, {})), 0)


def collect(
    repository: Repository,
    limits: Limits,
    *,
    clock: Clock,
    progress: Progress,
    checked: bool = False,
    pack_size: int = PACK_SIZE,
) -> CollectionResult:
    """Remove what nothing refers to. CollectionRefused, before anything is removed, where something is missing that
    should be there, or more would go than may go unasked (`checked`: `foresee` has asked that); DamagedError where it
    can't be told what is needed."""
    store, looks = repository.store, Looks(repository, limits.remembered, clock)
    progress.phase("Looking at what the backups need")
    busy = _busy(repository, clock)
    looks.refuse_losses()
    sure = clocks_agree(stamp_now(store, clock))
    swept, died = _sweep(repository, busy, sure=sure), died_runs(repository, lambda: sure)
    standing, used = looks.everything()
    swept += _sweep_findings(repository)  # no backup lacks anything, so they are about nothing
    plan = _plan(repository, used, busy, died)
    if not checked:
        limits.refuse_much(plan, 0, len(standing.committed))
    sealer = Sealer(repository.keys)
    put = put_tombstones(store, sealer, (*plan.remove, *plan.rewrite), stamp_now(store, clock))
    # Only these may be acted on: whatever gets its tombstone later may be in use by manifests that are not seen below.
    doomed = read_tombstones(store, repository.opener, put)
    # Once until the tombstones are seen by all, and once until the manifests are whose writers did not see them.
    lag = store.staleness if doomed else 0.0
    if lag:
        progress.phase("Waiting until every machine sees what goes")
    clock.sleep(2 * lag)
    standing, used = looks.everything()
    progress.phase("Copying what is needed out of packs that go", plan.copied)
    written, rewritten = _copy_out(repository, sealer, used, progress, pack_size)
    clock.sleep(lag)  # whoever misses a chunk where it was must find the copy
    repository.index.reload(written)
    used = used_by(repository, standing)
    progress.phase("Removing packs")
    now, wait = stamp_now(store, clock), grace(running=busy or _busy(repository, clock))
    free = used.packs.keys() - _held(repository, used)
    going = [pack for pack, stamp in doomed.items() if pack in free and may_go(stamp, now, wait)]
    freed = max(0, sum(used.packs[pack].size for pack in going) - rewritten)
    waiting = len(doomed.keys() & used.packs.keys()) - len(going)
    _delete(repository, sealer, going, written)
    clock.sleep(lag)  # who still lists a pack must find its tombstone
    gone = doomed.keys() & standing.removed.packs - used.packs.keys()
    side_by_side(store.delete, [tombstone_key(pack) for pack in (*going, *sorted(gone))])
    seal_manifests_anew(repository, clock)
    for intent in died:
        store.delete(intent_key(intent))
    return CollectionResult(False, plan, len(going), freed, waiting, swept + len(gone) + len(died), rewritten)


def running(repository: Repository) -> bool:
    """Whether a run says that it is under way, and not for too long to be believed."""
    since = [begun for _, begun in intents(repository)]
    # Telling the time writes into a folder: not where there is nothing to compare it with, as on a read-only disk.
    return bool(since) and any(abs(repository.store.time() - one) < POLITE.total_seconds() for one in since)


def _busy(repository: Repository, clock: Clock) -> bool:
    """The same; where the store's clock and this machine's disagree, every intent is believed."""
    sure = clocks_agree(stamp_now(repository.store, clock))
    return running(repository) or (not sure and bool(intents(repository)))


def _sweep(repository: Repository, busy: bool, *, sure: bool) -> int:
    """Finish what dead runs left (sentence 60); answers how many objects went. Ages count if the clocks are `sure`."""
    store, standing = repository.store, repository.standing()
    finish_removal(store, standing.leftover)
    for manifest in standing.abandoned:
        store.delete(manifest_key(manifest))
    swept = store.sweep() + len(standing.leftover) + len(standing.abandoned)
    now, sealer = store.time(), Sealer(repository.keys)
    for manifest, stored in standing.undecided.items():
        old = sure and abs(now - stored.stored_at) > POLITE.total_seconds()
        if busy and not old and _readable(repository, manifest):
            continue
        text = json.dumps({"outcome": ABANDONED}).encode()
        with suppress(ObjectExists):  # it was committed this moment
            store.put(outcome_key(manifest), sealer.seal_text(Kind.OUTCOME, manifest, text))
            swept += 1
    there = set(listed_indexes(repository))
    finish_removal(store, (), there & standing.removed.indexes)
    swept += len(there & standing.removed.indexes)
    swept += sweep_pretended(repository)
    return swept


def _readable(repository: Repository, manifest: bytes) -> bool:
    """Whether an unfinished backup is worth any patience: nobody could restore one whose manifest is not sound."""
    try:
        repository.manifest(manifest)
    except ObjectMissing:
        return True
    except (ArchiveError, RepositoryError):
        return False
    return True


def _sweep_findings(repository: Repository) -> int:
    """Findings of packs that are gone say nothing any more."""
    store, listed, swept = repository.store, set(repository.index.packs), 0
    for folder, kind in ((DAMAGE, Kind.DAMAGE), (CHECKED, Kind.CHECKED)):
        for stored in list(store.list(folder)):
            if (name := id_of(stored.key)) is None:
                continue
            try:
                text = read_text(store, repository.opener, kind, name)[1]
                about = {pack for pack, _ in decode_damage(text)} if kind is Kind.DAMAGE else decode_checked(text)
            except (ObjectMissing, ArchiveError, RepositoryError):
                continue
            if not about & listed:
                store.delete(stored.key)
                swept += 1
    return swept


def _plan(repository: Repository, used: Usage, busy: bool, died: Mapping[bytes, bytes | None]) -> CollectionPlan:
    # Ages matter only then; telling the time writes into a folder, which may be on a read-only disk.
    now = repository.store.time() if busy or died else 0.0
    outdated = outdated_packs(repository)
    runs = frozenset(run for run in died.values() if run is not None)
    damaged: dict[bytes, set[bytes]] = {}
    for pack, chunk in repository.index.view().damaged:
        damaged.setdefault(pack, set()).add(chunk)
    facts = (
        PackFacts(
            pack,
            info.size,
            used.live_bytes.get(pack, 0),
            blob_bytes(info.size, info.blobs) - used.live_bytes.get(pack, 0),
            timedelta(seconds=max(0.0, now - info.stored_at)),
            _health(used, pack, damaged.get(pack, frozenset()), pack in outdated),
            not used.live_bytes.get(pack) and written_by(repository, pack, runs),
        )
        for pack, info in used.packs.items()
        if not info.tombstoned
    )
    return plan_collection(facts, running=busy)


def _health(used: Usage, pack: bytes, damaged: Set[bytes], outdated: bool) -> Health:
    if not damaged:
        return "outdated" if outdated else "whole"
    return "hurt" if any(entry.chunk in damaged for entry in used.live_entries(pack)) else "damaged"


def _copy_out(
    repository: Repository, sealer: Sealer, used: Usage, progress: Progress, pack_size: int
) -> tuple[frozenset[bytes], int]:
    """Write anew what lies only in tombstoned packs (sentence 54); answers the packs that were written, and bytes."""
    packing = Packing(repository.store, sealer, repository.index, pack_size=pack_size)
    reader = ChunkReader(repository.store, repository.opener, repository.index)

    def read(entries: list[PackEntry]) -> tuple[list[PackEntry], list[OpenChunk | None]]:
        return entries, reader.chunks_at_best([(entry.chunk, entry.length) for entry in entries])

    try:
        for entries, found in ordered_map(read, _doomed(used)):
            for entry, chunk in zip(entries, found, strict=True):
                _take(packing, reader, entry, chunk)
            progress.advance(sum(entry.sealed for entry in entries))
        packing.flush()
    finally:
        packing.close()
    return frozenset(packing.written), packing.added


def _take(packing: Packing, reader: ChunkReader, entry: PackEntry, chunk: OpenChunk | None) -> None:
    """What can't be read any more stays where it is: its pack then has something that is needed, and is not deleted."""
    if chunk is None:
        try:
            (chunk,) = reader.chunks([(entry.chunk, entry.length)])
        except DamagedError:
            return
    packing.take(entry.chunk, entry.length, chunk.member)


def _doomed(used: Usage) -> Iterator[list[PackEntry]]:
    """What must be copied, pack by pack, in batches of a few MiB."""
    for pack, info in list(used.packs.items()):
        if not info.tombstoned:
            continue
        batch: list[PackEntry] = []
        size = 0
        for entry in used.live_entries(pack):
            batch.append(entry)
            size += entry.length
            if size >= _BATCH or len(batch) == _MOST_IN_BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _held(repository: Repository, used: Usage) -> set[bytes]:
    """Packs that hold what is live, and those tombstoned ones that hold a chunk which lies in such packs only: another
    prune may count it for another one of them."""
    held = set(used.live_bytes)
    for pack in used.live_bytes:
        if used.packs[pack].tombstoned:
            for entry in used.live_entries(pack):
                held |= {place.pack for place in repository.index.locate(entry.chunk)}
    return held


def _delete(repository: Repository, sealer: Sealer, going: Iterable[bytes], written: frozenset[bytes]) -> None:
    """Delete packs, whose tombstones stay, and the indexes that another replaces."""
    store = repository.store
    replaced = _replace_indexes(repository, sealer, going)
    _record(repository, sealer, Removals(packs=frozenset(going), indexes=frozenset(replaced), written=written))
    side_by_side(store.delete, [*map(index_key, replaced), *map(pack_key, going)])


def _replace_indexes(repository: Repository, sealer: Sealer, going: Iterable[bytes]) -> list[bytes]:
    """One index for all packs that stay, where there are many; answers those that it replaces (sentence 59)."""
    index = repository.index
    there = listed_indexes(repository)
    gone = set(going)
    # Of packs that only a write-only host vouches for, its own index is all there is.
    if len(there) <= _MANY_INDEXES or any(info.blobs and not info.believed for info in index.packs.values()):
        return []
    stay = [pack for pack, info in index.packs.items() if pack not in gone and info.blobs]
    for group in index.index_groups(stay):
        name = new_id()
        repository.store.put(index_key(name), index.encode_index(sealer, name, group))
    return there


def _record(repository: Repository, sealer: Sealer, removed: Removals) -> None:
    """Say what goes, before it goes; many records become one (the new one is put first)."""
    standing = repository.standing()
    old = standing.removed.records if len(standing.removed.records) > _MANY_RECORDS else ()
    if old:
        removed = standing.removed.plus(removed)
    if not removed:
        return
    name = new_id()
    repository.store.put(record_key(name), encode_removal(sealer, name, "prune", removed))
    side_by_side(repository.store.delete, map(record_key, old))

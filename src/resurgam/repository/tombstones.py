"""Tombstones: which packs will be deleted, and since when by every clock there is (docs/ordering.md, 53 and 56)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from resurgam.clock import Clock
from resurgam.errors import ArchiveError, DamagedError, ObjectExists, ObjectMissing, RepositoryError
from resurgam.pipeline.workers import side_by_side
from resurgam.repository.layout import TOMBSTONES, id_of, tombstone_key
from resurgam.repository.sealing import Kind, Opener, Sealer
from resurgam.repository.texts import read_text
from resurgam.stores.objects import ObjectStore

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment: seconds since 1970 by the store's clock and by the machine's, and seconds since that machine's boot,
    which `boot` names ("" where that can't be told)."""

    stored_at: float
    written_at: float
    boot: str
    since_boot: float


def stamp_now(store: ObjectStore, clock: Clock) -> Stamp:
    """The present moment."""
    try:
        boot = _BOOT.read_text().strip()
    except OSError:
        boot = ""
    # Of the clocks that nobody can set, the one that goes on while the machine sleeps.
    since = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Stamp(store.time(), clock.now().timestamp(), boot, time.clock_gettime(since))


def put_tombstones(store: ObjectStore, sealer: Sealer, packs: Iterable[bytes], stamp: Stamp) -> dict[bytes, Stamp]:
    """From now on these packs count as absent for every writer, for good; answers those that had no tombstone."""
    text = json.dumps({"at": stamp.written_at, "boot": stamp.boot, "since_boot": stamp.since_boot}).encode()
    put = {}

    def put_one(pack: bytes) -> None:
        with suppress(ObjectExists):  # another prune put it this moment
            store.put(tombstone_key(pack), sealer.seal_text(Kind.TOMBSTONE, pack, text))
            put[pack] = stamp

    side_by_side(put_one, packs)
    return put


def read_tombstones(store: ObjectStore, opener: Opener, put: Mapping[bytes, Stamp]) -> dict[bytes, Stamp]:
    """All sound tombstones, by the packs' ids; those that the caller has `put` himself are not read. One that is not
    sound still keeps everybody from the pack (53), and lets nobody delete it (55)."""
    found = dict(put)
    for stored in store.list(TOMBSTONES):
        pack = id_of(stored.key)
        if pack is None or pack in put:
            continue
        try:
            _, text = read_text(store, opener, Kind.TOMBSTONE, pack)
            found[pack] = replace(_stamp(pack, text), stored_at=stored.stored_at)
        except (ObjectMissing, ArchiveError, RepositoryError):
            continue
    return found


def _stamp(pack: bytes, text: bytes) -> Stamp:
    try:
        fields = json.loads(text)
        return Stamp(0.0, float(fields["at"]), str(fields["boot"]), float(fields["since_boot"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise DamagedError(f"The tombstone of the pack {pack.hex()} is malformed.") from None

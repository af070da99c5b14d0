"""What was deleted on purpose: records of deletions and prunes (docs/repository-format.md, sentence 23)."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from resurgam.errors import ArchiveError, DamagedError, ObjectMissing, RepositoryError
from resurgam.pipeline.workers import side_by_side
from resurgam.repository.layout import RECORDS, id_of, index_key, manifest_key, outcome_key
from resurgam.repository.sealing import Kind, Opener, Sealer
from resurgam.repository.texts import read_text
from resurgam.stores.objects import ObjectStore

# How often records are listed while others merge them. What was read stays true.
_LISTINGS = 3


@dataclass(frozen=True, slots=True)
class Removals:
    """Ids of all that records name: these may be missing from listings, and count as gone. `written`: packs that
    prunes wrote, which no manifest names, and which must not be missing. `unfit`: what is wrong with records that say
    nothing, a sentence each."""

    manifests: frozenset[bytes] = frozenset()
    packs: frozenset[bytes] = frozenset()
    indexes: frozenset[bytes] = frozenset()
    written: frozenset[bytes] = frozenset()
    records: tuple[bytes, ...] = field(default=())
    unfit: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.manifests or self.packs or self.indexes or self.written)

    def plus(self, other: Removals) -> Removals:
        """Both together; the records are this one's."""
        return replace(
            self,
            manifests=self.manifests | other.manifests,
            packs=self.packs | other.packs,
            indexes=self.indexes | other.indexes,
            written=self.written | other.written,
        )


def read_removals(store: ObjectStore, opener: Opener, known: dict[bytes, Removals] | None = None) -> Removals:
    """All records there are. What a broken one named counts as lost, or as never deleted: neither costs any data.
    `known` keeps what each one says, so that it is read once."""
    found, known = Removals(), {} if known is None else known
    read, unfit = set[bytes](), dict[bytes, str]()
    for _ in range(_LISTINGS):
        listed = [record for one in store.list(RECORDS) if (record := id_of(one.key)) is not None]
        merged = False
        for record in sorted(set(listed) - read - unfit.keys()):
            if record not in known:
                try:
                    known[record] = _decoded(record, read_text(store, opener, Kind.RECORD, record)[1])
                except ObjectMissing:
                    merged = True  # into another one, which may be put since the listing
                    continue
                except (ArchiveError, RepositoryError) as error:
                    unfit[record] = error.message
                    continue
            read.add(record)
            found = found.plus(known[record])
        if not merged:
            break
    return replace(found, records=tuple(sorted(read)), unfit=tuple(unfit.values()))


def encode_removal(sealer: Sealer, record: bytes, reason: str, removed: Removals) -> bytearray:
    """A record's object."""
    fields = {
        "reason": reason,
        "manifests": sorted(one.hex() for one in removed.manifests),
        "packs": sorted(one.hex() for one in removed.packs),
        "indexes": sorted(one.hex() for one in removed.indexes),
        "written": sorted(one.hex() for one in removed.written - removed.packs),
    }
    return sealer.seal_text(Kind.RECORD, record, json.dumps(fields, sort_keys=True).encode())


def finish_removal(store: ObjectStore, manifests: Collection[bytes], indexes: Iterable[bytes] = ()) -> None:
    """Delete what a record names, as often as it takes; packs are the prune's to delete (sentence 55)."""
    side_by_side(store.delete, [manifest_key(manifest) for manifest in manifests])
    side_by_side(store.delete, [outcome_key(manifest) for manifest in manifests])
    side_by_side(store.delete, [index_key(index) for index in indexes])


def _decoded(record: bytes, raw: bytes) -> Removals:
    try:
        fields = json.loads(raw)
        manifests, packs, indexes, written = (
            frozenset(map(bytes.fromhex, fields[name])) for name in ("manifests", "packs", "indexes", "written")
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DamagedError(f"The record {record.hex()} of what was deleted is malformed.") from None
    return Removals(manifests, packs, indexes, written)

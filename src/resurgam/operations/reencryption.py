"""After a rotation of the keys, old data are sealed anew bit by bit, with each prune (docs/ordering.md, sentence 66).

Packs of older epochs are rewritten by the collection, as partly used ones are. Manifests are put again under a new id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from resurgam.errors import ArchiveError, HostileError, ObjectMissing, RepositoryError
from resurgam.repository.layout import manifest_key, new_id, outcome_key, pack_key, record_key
from resurgam.repository.manifests import COMMITTED
from resurgam.repository.removals import Removals, encode_removal, finish_removal, read_removals
from resurgam.repository.repository import Repository
from resurgam.repository.sealing import HEADER, Kind, Sealer

# Bytes of packs that one prune seals anew at most: some seconds of work.
BUDGET = 2 << 30


def outdated_packs(repository: Repository, budget: int = BUDGET) -> frozenset[bytes]:
    """Packs of older epochs to be rewritten now, the oldest first; none while there was no rotation."""
    if len(repository.keys.private) < 2:
        return frozenset()
    found, size = [], 0
    for pack in _of_older_epochs(repository):
        if size >= budget:
            break
        found.append(pack)
        size += repository.index.packs[pack].size
    return frozenset(found)


def outdated_bytes(repository: Repository) -> int:
    """Bytes of packs that an older epoch's key still opens."""
    if len(repository.keys.private) < 2:
        return 0
    return sum(repository.index.packs[pack].size for pack in _of_older_epochs(repository))


def seal_manifests_anew(repository: Repository) -> int:
    """Put each committed manifest of an older epoch again under a new id; answers how many.

    Two have the same name for a moment; lists show one of them. One that somebody deletes meanwhile is deleted again.
    """
    if len(repository.keys.private) < 2:
        return 0
    store, sealer, done = repository.store, Sealer(repository.keys), 0
    for manifest in repository.standing().committed:
        try:
            raw = store.get(manifest_key(manifest), 0, HEADER)
            if repository.opener.header(Kind.MANIFEST, manifest, raw).epoch >= repository.keys.epoch.number:
                continue
            content = repository.manifest(manifest).encode()
            # What a write-only host says of others must not be believed the more for it.
            passing_on = Sealer(repository.keys, author=repository.author(manifest))
        except (ObjectMissing, HostileError):
            continue  # deleted since it was listed; or nonsense, which nobody can seal anew
        new, record = new_id(), new_id()
        store.put(manifest_key(new), passing_on.seal_text(Kind.MANIFEST, new, content))
        outcome = json.dumps({"outcome": COMMITTED}).encode()
        store.put(outcome_key(new), sealer.seal_text(Kind.OUTCOME, new, outcome))
        deleted = manifest in read_removals(store, repository.opener).manifests
        gone = frozenset({manifest, new} if deleted else {manifest})
        store.put(record_key(record), encode_removal(sealer, record, "sealed anew", Removals(manifests=gone)))
        finish_removal(store, gone)
        done += 1
    return done


def _of_older_epochs(repository: Repository) -> Iterator[bytes]:
    packs = sorted(repository.index.packs.items(), key=lambda one: one[1].stored_at)
    for pack, info in packs:
        if info.tombstoned:
            continue
        try:
            header = repository.opener.header(Kind.PACK, pack, repository.store.get(pack_key(pack), 0, HEADER))
        except (ObjectMissing, ArchiveError, RepositoryError):
            continue  # gone, or damaged, which a verification tells
        if header.epoch < repository.keys.epoch.number:
            yield pack

"""After a rotation of the keys, old data are sealed anew bit by bit, with each prune (docs/ordering.md, sentence 66).

Packs of older epochs are rewritten by the collection, as partly used ones are. Manifests are put again under a new id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from blake3 import blake3

from resurgam.clock import Clock
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


def seal_manifests_anew(repository: Repository, clock: Clock) -> int:
    """Put each committed manifest of an older epoch again under a new id; answers how many.

    Two have the same name for a moment; lists show one of them. One that somebody deletes meanwhile is deleted again.
    """
    if len(repository.keys.private) < 2:
        return 0
    store, sealer = repository.store, Sealer(repository.keys)
    old, new = _by_epoch(repository)
    if not old:
        return 0
    replaced: dict[bytes, bytes] = {}
    for manifest, content in old.items():
        digest = blake3(content).digest()
        replaced[manifest] = new.get(digest) or _put_anew(repository, manifest, content)
    # Who does not list the old one any more must list the new one.
    clock.sleep(store.staleness)
    for manifest, put in replaced.items():
        deleted = manifest in read_removals(store, repository.opener).manifests
        gone, record = frozenset({manifest, put} if deleted else {manifest}), new_id()
        store.put(record_key(record), encode_removal(sealer, record, "sealed anew", Removals(manifests=gone)))
        finish_removal(store, gone)
    return len(replaced)


def _by_epoch(repository: Repository) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The content of committed manifests of older epochs; and which of the newest have which content, by its digest: a
    run that died between the two puts may have left them."""
    old, new = {}, {}
    for manifest in repository.standing().committed:
        try:
            raw = repository.store.get(manifest_key(manifest), 0, HEADER)
            epoch = repository.opener.header(Kind.MANIFEST, manifest, raw).epoch
            content = repository.manifest(manifest).encode()
        except (ObjectMissing, HostileError):
            continue  # deleted since it was listed; or nonsense, which nobody can seal anew
        if epoch < repository.keys.epoch.number:
            old[manifest] = content
        else:
            new[blake3(content).digest()] = manifest
    return old, new


def _put_anew(repository: Repository, manifest: bytes, content: bytes) -> bytes:
    new, store = new_id(), repository.store
    # What a write-only host says of others must not be believed the more for it.
    passing_on = Sealer(repository.keys, author=repository.author(manifest))
    store.put(manifest_key(new), passing_on.seal_text(Kind.MANIFEST, new, content))
    outcome = json.dumps({"outcome": COMMITTED}).encode()
    store.put(outcome_key(new), Sealer(repository.keys).seal_text(Kind.OUTCOME, new, outcome))
    return new


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

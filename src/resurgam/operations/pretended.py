"""Sweeps what write-only hosts wrote that only a holder of the full key may say (repository-format.md, sentence 7).

Nobody with the full key believes it, but a tombstone's name alone keeps writers from its pack.
"""

from __future__ import annotations

from dataclasses import replace

from resurgam.errors import ArchiveError, ObjectMissing, RepositoryError
from resurgam.repository.layout import CHECKED, DAMAGE, RECORDS, TOMBSTONES, id_of
from resurgam.repository.repository import Repository
from resurgam.repository.sealing import HEADER, WRITE_ONLY, Kind, Opener

_FOLDERS = {TOMBSTONES: Kind.TOMBSTONE, RECORDS: Kind.RECORD, DAMAGE: Kind.DAMAGE, CHECKED: Kind.CHECKED}


def sweep_pretended(repository: Repository) -> int:
    """Delete them; answers how many. What is not authentic stays: it may be a damaged object that meant something."""
    store, swept = repository.store, 0
    # As a write-only host sees it: without the second MAC, which alone makes it refuse such an object unread.
    opener = Opener(replace(repository.keys, auth_full=None, private={}))
    for folder, kind in _FOLDERS.items():
        for stored in list(store.list(folder)):
            name = id_of(stored.key)
            if name is None:
                continue
            try:
                author = opener.header(kind, name, store.get(stored.key, 0, HEADER)).author
            except (ObjectMissing, ArchiveError, RepositoryError):
                continue
            if author == WRITE_ONLY:
                store.delete(stored.key)
                swept += 1
    return swept

"""Which backups have all that they need, given what is damaged: nothing is read but their lists.

A record that stands in several backups is looked through once.
"""

from __future__ import annotations

from collections.abc import Iterator, Set

from blake3 import blake3

from resurgam.errors import DamagedError
from resurgam.repository.index_set import Place
from resurgam.repository.manifests import Manifest
from resurgam.repository.records import Record, bodies
from resurgam.repository.repository import Repository, StoredBackup


class Sought:
    """Looks for the chunks of backups. `bad` are pairs of pack and chunk, `unreadable` whole packs."""

    def __init__(
        self, repository: Repository, bad: Set[tuple[bytes, bytes]], unreadable: Set[bytes] = frozenset()
    ) -> None:
        self._repository, self._index = repository, repository.index
        self._bad, self._unreadable = bad, unreadable
        self._known: dict[bytes, bool] = {}

    def whole(self, backup: StoredBackup) -> bool:
        """Whether every chunk of the backup lies in a pack that is not known to have lost it."""
        manifest = backup.manifest
        if not all(self._there(chunk, length) for chunk, length in manifest.list_chunks()):
            return False
        try:
            return all(self._record_whole(body) for body in self._bodies(manifest))
        except DamagedError:
            return False

    def _bodies(self, manifest: Manifest) -> Iterator[memoryview]:
        return bodies(self._repository.reader.blocks(manifest.list_chunks()))

    def _record_whole(self, body: memoryview) -> bool:
        mark = blake3(body).digest(16)
        known = self._known.get(mark)
        if known is None:
            record = Record.decode(body)
            known = all(map(self._there, record.ids(), record.lengths))
            self._known[mark] = known
        return known

    def _there(self, chunk: bytes, length: int) -> bool:
        place = self._index.reusable(chunk)  # nearly always the only one
        if place is not None and self._good(place, chunk, length):
            return True
        return any(self._good(place, chunk, length) for place in self._index.locate(chunk))

    def _good(self, place: Place, chunk: bytes, length: int) -> bool:
        pack = place.pack
        return place.length == length and pack not in self._unreadable and (pack, chunk) not in self._bad

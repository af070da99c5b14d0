"""Which backups this machine has seen: a listing that lacks one is not believed (docs/ordering.md, sentence 57).

In the cache, under a keyed digest. Without it, or with one that somebody changed, only the other checks remain.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from resurgam.durable import replace_file
from resurgam.keys.secrets import ID, Secrets

_NAME = "seen"
_DIGEST = 32


class Memory:
    """The manifests that were committed when this machine last looked."""

    def __init__(self, keys: Secrets, folder: Path | None) -> None:
        self._key = blake3(b"seen", key=keys.auth_full or keys.auth_shared).digest()
        self._path = None if folder is None else folder / _NAME

    def read(self) -> frozenset[bytes]:
        """Their ids; none where nothing sound is kept."""
        if self._path is None:
            return frozenset()
        try:
            data = self._path.read_bytes()
        except OSError:
            return frozenset()
        ids = data[_DIGEST:]
        if blake3(ids, key=self._key).digest() != data[:_DIGEST] or len(ids) % ID:
            return frozenset()
        return frozenset(ids[at : at + ID] for at in range(0, len(ids), ID))

    def write(self, manifests: Iterable[bytes]) -> None:
        """Remember these instead; a cache that can't be written is no reason to fail."""
        if self._path is not None:
            ids = b"".join(sorted(manifests))
            with suppress(OSError):
                replace_file(self._path, blake3(ids, key=self._key).digest() + ids)


def remembers(folder: Path) -> bool:
    """Whether backups were seen by whoever kept this cache; no key is needed to tell that."""
    try:
        return (folder / _NAME).stat().st_size > _DIGEST
    except OSError:
        return False

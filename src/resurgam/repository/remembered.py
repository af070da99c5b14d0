"""Which backups this machine has seen in a repository, so that a prune misses them when a listing is short (57).

A file in the cache folder, and only a help: where it is gone or unfit nothing is remembered. The digest is keyed, so
that nobody else can make a prune miss what never was.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from resurgam.keys.secrets import ID, Secrets

_NAME = "committed.seen"
_DIGEST = 32
_LONGEST = _DIGEST + ID * 1_000_000


class Remembered:
    """The committed manifests that were seen last, in `folder`; nothing where there is none."""

    def __init__(self, keys: Secrets, folder: Path | None) -> None:
        self._key = blake3(b"remembered", key=keys.auth_full or keys.auth_shared).digest()
        self._path = None if folder is None else folder / _NAME

    def read(self) -> frozenset[bytes]:
        """Ids of manifests; empty where nothing sound is to be had."""
        if self._path is None:
            return frozenset()
        try:
            with self._path.open("rb") as file:
                data = file.read(_LONGEST + 1)
        except OSError:
            return frozenset()
        ids = data[_DIGEST:]
        if len(ids) % ID or len(data) > _LONGEST or blake3(ids, key=self._key).digest() != data[:_DIGEST]:
            return frozenset()
        return frozenset(ids[at : at + ID] for at in range(0, len(ids), ID))

    def write(self, manifests: Iterable[bytes]) -> None:
        """Remember these and no others. What can't be written is not remembered."""
        if self._path is None:
            return
        ids = b"".join(sorted(manifests))
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(".partial", ".", self._path.parent)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(blake3(ids, key=self._key).digest() + ids)
                partial.replace(self._path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

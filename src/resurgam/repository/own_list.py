"""The list of this machine's last backup of an application, kept in the cache: a write-only host can't read it back.

It holds names and times of files, as the machine itself does, and ids of chunks; never their content. The digest is
keyed: a file that anybody else wrote, or that was torn, is not used, and all files are read again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from resurgam.keys.secrets import ID, Secrets

_BLOCK = 1 << 20
_DIGEST = 32


class OwnList:
    """One application's list in `folder`."""

    def __init__(self, keys: Secrets, folder: Path, app: str) -> None:
        self._key = blake3(b"own list", key=keys.auth_full or keys.auth_shared).digest()
        self._path = folder / f"{app}.list"

    def read(self) -> tuple[bytes, Iterator[bytes]] | None:
        """The manifest that it is of, and the list's bytes; None if there is no sound one."""
        try:
            with self._path.open("rb") as file:
                head = file.read(_DIGEST + ID)
                hasher = blake3(head[_DIGEST:], key=self._key)
                while block := file.read(_BLOCK):
                    hasher.update(block)
        except OSError:
            return None
        if len(head) != _DIGEST + ID or hasher.digest() != head[:_DIGEST]:
            return None
        return head[_DIGEST:], self._blocks()

    def write(self, manifest: bytes, blocks: Iterable[bytes]) -> None:
        """Keep the list of that manifest. What can't be written is not kept: it would only have saved reading."""
        hasher = blake3(manifest, key=self._key)
        with suppress(OSError):
            descriptor, name = tempfile.mkstemp(".partial", ".", self._path.parent)
            partial = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(bytes(_DIGEST) + manifest)
                    for block in blocks:
                        hasher.update(block)
                        file.write(block)
                    file.seek(0)
                    file.write(hasher.digest())
                partial.replace(self._path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def _blocks(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            file.seek(_DIGEST + ID)
            while block := file.read(_BLOCK):
                yield block

"""Where an encrypted archive's bytes go: through something that takes them from the first to the last."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Protocol

from resurgam.archive.age_file import AgeWriter
from resurgam.archive.age_header import FILE_KEY, header_for_passphrase, header_for_recipients, parse_header, unwrap
from resurgam.archive.gpg import GpgWriter
from resurgam.archive.sealing import Sealing
from resurgam.archive.spool import Spool
from resurgam.errors import KeyRefused
from resurgam.keys.age import parse_recipient


class Sealer(Protocol):
    """Encrypts a stream into a file. `finish` answers its size if the disk holds what decrypts to the stream."""

    def write(self, data: bytes) -> None: ...
    def finish(self) -> int: ...
    def close(self) -> None: ...


class SequentialSink:
    """Passes the archive on from its first byte to its last (`Sink`). What follows reserved bytes waits in a spool."""

    def __init__(self, sealer: Sealer, scratch: Path) -> None:
        """`scratch` is the folder on whose disk the spool is made, if one is needed."""
        self._sealer = sealer
        self._scratch = scratch
        self._spool: Spool | None = None

    def write(self, data: bytes, digest: bytes) -> None:
        (self._spool or self._sealer).write(data)

    def reserve(self, length: int) -> None:
        assert self._spool is None
        self._spool = Spool(self._scratch)

    def fill(self, data: bytes) -> None:
        assert self._spool is not None
        with self._spool as spool:
            self._spool = None
            self._sealer.write(data)
            for block in spool.blocks():
                self._sealer.write(block)

    def finish(self) -> int:
        return self._sealer.finish()

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()
        self._sealer.close()


def encrypting_sink(fd: int, sealing: Sealing, scratch: Path) -> SequentialSink:
    """Encrypts an archive into an open file; what must wait does so on the disk of `scratch`.

    KeyRefused if there is neither a passphrase nor a recipient, or a recipient is none; StorageError if gpg is wanted
    and not there.
    """
    return SequentialSink(_sealer(fd, sealing), scratch)


def _sealer(fd: int, sealing: Sealing) -> Sealer:
    keys = sealing.keys
    if sealing.kind == "gpg":
        return GpgWriter(fd, keys)
    file_key = secrets.token_bytes(FILE_KEY)
    if sealing.recipients:
        header = header_for_recipients(file_key, [parse_recipient(one) for one in sealing.recipients])
    elif keys.passphrase is not None:
        header = header_for_passphrase(file_key, keys.passphrase)
        # Now, and not when the file is checked: it takes memory, of which a backup under way has less.
        if unwrap(parse_header(header), keys.passphrase, ()) != file_key:
            raise KeyRefused("The passphrase does not open what it has just encrypted; no backup was taken.")
    else:
        raise KeyRefused("Archives shall be encrypted, and there is no key to do it by.", "Set BACKUP_ENCRYPTION_KEY.")
    return AgeWriter(fd, header, file_key)

"""The sink of a new encrypted archive."""

from __future__ import annotations

import secrets
from pathlib import Path

from resurgam.archive.age_file import AgeWriter
from resurgam.archive.age_header import FILE_KEY, header_for_passphrase, header_for_recipients
from resurgam.archive.gpg import GpgWriter
from resurgam.archive.sealing import Sealing
from resurgam.archive.sinks import Sealer, SequentialSink
from resurgam.errors import KeyRefused


def encrypting_sink(fd: int, sealing: Sealing, scratch: Path) -> SequentialSink:
    """Encrypts an archive into an open file; what must wait does so on the disk of `scratch`.

    KeyRefused if there is neither a passphrase nor a recipient; StorageError if gpg is wanted and not there.
    """
    return SequentialSink(_sealer(fd, sealing), scratch)


def _sealer(fd: int, sealing: Sealing) -> Sealer:
    keys = sealing.keys
    if sealing.kind == "gpg":
        return GpgWriter(fd, keys)
    file_key = secrets.token_bytes(FILE_KEY)
    if sealing.recipients:
        header = header_for_recipients(file_key, sealing.recipients)
    elif keys.passphrase is not None:
        header = header_for_passphrase(file_key, keys.passphrase)
    else:
        raise KeyRefused("Archives shall be encrypted, and there is no key to do it by.", "Set BACKUP_ENCRYPTION_KEY.")
    return AgeWriter(fd, header, file_key, keys)

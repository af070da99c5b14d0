"""The settings of encryption, read and checked; problems go to the reader like all others."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Literal

from resurgam.settings import variables as v
from resurgam.settings.layers import Reader
from resurgam.settings.model import Encryption
from resurgam.settings.secret import Secret

# gpg takes it as one line of a pipe, which holds 4 KiB without a reader.
_LONGEST = 4000


def read_encryption(reader: Reader) -> Encryption:
    """What is set, and the kind that follows from it."""
    key, command = reader.secret(v.BACKUP_ENCRYPTION_KEY), _command(reader)
    if key is not None and (why := unfit(key)):
        reader.complain(v.BACKUP_ENCRYPTION_KEY.name, why)
    if key is not None and command:
        reader.complain(v.BACKUP_ENCRYPTION_KEY.name, f"and {v.BACKUP_ENCRYPTION_KEY_COMMAND.name} are both set")
    recipients = tuple(dict.fromkeys(reader.value(v.BACKUP_ENCRYPTION_RECIPIENTS)))
    file = reader.optional(v.BACKUP_ENCRYPTION_IDENTITY_FILE)
    identity_file = None if file is None else Path(os.path.normpath(reader.base / file))
    if identity_file is not None:
        reader.secret_files.append(identity_file)
    kind = _kind(reader, by_key=key is not None or bool(command), recipients=bool(recipients))
    return Encryption(kind, key, command, recipients, identity_file)


def unfit(key: Secret) -> str:
    """Why a text can be no passphrase, or "": tools take it as one line."""
    text = key.reveal()
    if not text.strip():
        return "must not be blank"
    if len(text.encode("utf-8", "surrogateescape")) > _LONGEST:
        return f"must have at most {_LONGEST} bytes"
    if any(character in text for character in "\n\r\0"):
        return "must be one line"
    return ""


def _kind(reader: Reader, *, by_key: bool, recipients: bool) -> Literal["age", "gpg"] | None:
    name, word = v.BACKUP_ENCRYPTION.name, reader.value(v.BACKUP_ENCRYPTION)
    if word == "gpg":
        if recipients:
            reader.complain(
                name, f"gpg encrypts by a key only; unset {v.BACKUP_ENCRYPTION_RECIPIENTS.name}, or use age"
            )
        elif not by_key:
            reader.complain(name, f"gpg needs {v.BACKUP_ENCRYPTION_KEY.name}")
        return "gpg"
    if word == "age":
        if not by_key and not recipients:
            reader.complain(name, f"age needs {v.BACKUP_ENCRYPTION_KEY.name} or {v.BACKUP_ENCRYPTION_RECIPIENTS.name}")
        return "age"
    wanted = word != "none" and (by_key or recipients) and not reader.is_set("BACKUP_REPOSITORY")
    return "age" if wanted else None


def _command(reader: Reader) -> tuple[str, ...]:
    text = reader.optional(v.BACKUP_ENCRYPTION_KEY_COMMAND)
    try:
        return tuple(shlex.split(text or ""))
    except ValueError:
        reader.complain(v.BACKUP_ENCRYPTION_KEY_COMMAND.name, "has a quotation mark without its end")
        return ()

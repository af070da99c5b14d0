"""The settings of encryption, read and checked; problems go to the reader like all others."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Literal

from resurgam.settings import repository_variables as v
from resurgam.settings.layers import Reader
from resurgam.settings.model import Encryption
from resurgam.settings.secret import Secret
from resurgam.settings.table import Variable

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
    identity_file = key_file(reader, v.BACKUP_ENCRYPTION_IDENTITY_FILE)
    kind = _kind(reader, by_key=key is not None or bool(command), recipients=bool(recipients))
    return Encryption(kind, key, command, recipients, identity_file)


def key_file(reader: Reader, variable: Variable[str]) -> Path | None:
    """A file with a key, which therefore never enters a backup; it is opened when it is needed."""
    given = reader.optional(variable)
    if given is None:
        return None
    path = Path(os.path.normpath(reader.base / given))
    reader.secret_files.append(path)
    return path


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
    if reader.is_set(v.BACKUP_REPOSITORY.name):
        for variable in (v.BACKUP_ENCRYPTION, v.BACKUP_ENCRYPTION_RECIPIENTS):
            if reader.is_set(variable.name):
                reader.complain(variable.name, "is about archives, and a repository is always encrypted; unset it")
        return None
    if word == "gpg":
        if recipients:
            reader.complain(name, f"gpg encrypts by a passphrase; unset {v.BACKUP_ENCRYPTION_RECIPIENTS.name}")
        elif not by_key:
            reader.complain(name, f"gpg needs {v.BACKUP_ENCRYPTION_KEY.name}")
        return "gpg"
    if word == "age" and not by_key and not recipients:
        reader.complain(name, f"age needs {v.BACKUP_ENCRYPTION_KEY.name} or {v.BACKUP_ENCRYPTION_RECIPIENTS.name}")
    return "age" if word != "none" and (by_key or recipients) else None


def _command(reader: Reader) -> tuple[str, ...]:
    given = reader.optional(v.BACKUP_ENCRYPTION_KEY_COMMAND)
    if given is None:
        return ()
    try:
        words = tuple(shlex.split(given))
    except ValueError:
        words = ()
    if not words:
        reader.complain(v.BACKUP_ENCRYPTION_KEY_COMMAND.name, "is no command: a quote is not closed, or it is empty")
    return words

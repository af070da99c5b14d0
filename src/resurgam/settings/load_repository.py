"""The repository's settings, read and checked; problems go to the reader like all others."""

from __future__ import annotations

import os
import re

from resurgam.settings import repository_variables as v
from resurgam.settings import variables
from resurgam.settings.encryption import key_file
from resurgam.settings.layers import Reader
from resurgam.settings.model import Encryption, RepositoryRules

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FILES = (v.BACKUP_WRITER_KEY_FILE, v.BACKUP_RECOVERY_KIT_FILE)


def read_repository(reader: Reader, encryption: Encryption) -> RepositoryRules | None:
    """The rules, with the keys that `encryption` has; None where backups are archives. What only a repository has a use
    for is refused without one."""
    files = {variable.name: key_file(reader, variable) for variable in _FILES}
    limit, read_all = reader.value(v.BACKUP_PRUNE_LIMIT), reader.value(v.BACKUP_READ_ALL)
    given = reader.optional(v.BACKUP_REPOSITORY)
    if given is None:
        for name in files:
            if files[name] is not None:
                reader.complain(name, "is about a repository, and BACKUP_REPOSITORY is not set")
        return None
    if reader.value(variables.REMOTE_BACKUP_ENABLED):
        reader.complain(
            variables.REMOTE_BACKUP_ENABLED.name,
            "copies archives, and with BACKUP_REPOSITORY there are none: copy the repository's folder or bucket "
            "itself (docs/user-guide.md), or schedule a second backup with archives",
        )
    ways = {
        "BACKUP_ENCRYPTION_KEY": encryption.key is not None,
        v.BACKUP_ENCRYPTION_KEY_COMMAND.name: bool(encryption.key_command),
        v.BACKUP_ENCRYPTION_IDENTITY_FILE.name: encryption.identity_file is not None,
        v.BACKUP_WRITER_KEY_FILE.name: files[v.BACKUP_WRITER_KEY_FILE.name] is not None,
    }
    first, *others = [name for name, there in ways.items() if there] or [""]
    if others:
        reader.complain(first, f"and {' and '.join(others)} are all set; keep the one that shall open the repository")
    return RepositoryRules(
        place=given if _URL.match(given) else os.path.normpath(reader.base / given),
        passphrase=encryption.key,
        command=encryption.key_command,
        identity_file=encryption.identity_file,
        writer_key_file=files[v.BACKUP_WRITER_KEY_FILE.name],
        kit_file=files[v.BACKUP_RECOVERY_KIT_FILE.name],
        prune_limit=limit,
        read_all=read_all,
    )

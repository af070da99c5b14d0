"""Can what is encrypted here be opened? Asked by doctor and health, before the day on which it matters."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from resurgam.archive.sealing import ArchiveKeys
from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.drills import Drill
from resurgam.errors import KeyRefused
from resurgam.keys.age import parse_recipient
from resurgam.operations.archive_keys import read_identities
from resurgam.settings.model import Encryption


def key_doubt(encryption: Encryption, drill: Drill | None, records: Sequence[BackupRecord]) -> str:
    """Why nobody can say that new archives can be opened: a sentence, or "".

    A passphrase is set where it encrypts, so it opens too. An identity must have been shown: by its file, or by the
    last `drill`, whose backup `records` know.
    """
    if encryption.kind is None or not encryption.recipients:
        return ""
    try:
        wanted = {parse_recipient(one) for one in encryption.recipients}
        if encryption.identity_file is not None:
            if wanted & {one.recipient for one in read_identities(encryption.identity_file)}:
                return ""
            return "BACKUP_ENCRYPTION_IDENTITY_FILE opens nothing that is encrypted to BACKUP_ENCRYPTION_RECIPIENTS."
    except KeyRefused as error:
        return error.message
    encrypted = {one.name for one in records if any(copy.form == "age" for copy in one.copies)}
    if drill is not None and drill.outcome == "passed" and drill.backup in encrypted:
        return ""
    return "Archives are encrypted to recipients, and no identity that opens them was ever shown here."


def sealing_trouble(encryption: Encryption, keys: ArchiveKeys) -> str:
    """Why the next backup would fail for its encryption: a sentence, or "". May run the user's command for the key."""
    try:
        if encryption.kind is not None and not encryption.recipients and keys.passphrase is None:
            return "There is no passphrase to encrypt by."
    except KeyRefused as error:
        return error.message
    if encryption.kind == "gpg" and shutil.which("gpg", path=keys.search_path) is None:
        return "There is no gpg in PATH."
    return ""

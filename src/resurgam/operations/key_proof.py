"""Can what is encrypted here be opened? Asked by doctor and health, before the day on which it matters."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from resurgam.archive.sealing import ArchiveKeys
from resurgam.catalog.catalog import BackupRecord
from resurgam.catalog.drills import Drill
from resurgam.catalog.state import State
from resurgam.errors import KeyRefused
from resurgam.keys.age import parse_recipient
from resurgam.operations.archive_keys import read_identities
from resurgam.operations.inventory import Inventory
from resurgam.settings.model import Encryption, Settings


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


def encryption_findings(
    settings: Settings, inventory: Callable[[], Inventory], state: Callable[[], State]
) -> Iterator[tuple[Literal["ok", "warning", "problem"], str, str]]:
    """What doctor says where archives are encrypted, and what to do about it. May run the user's command for the key.

    `state` is not opened where that would create it.
    """
    encryption = settings.encryption
    if encryption.kind is None:
        return
    opened = inventory()
    if trouble := sealing_trouble(encryption, opened.keys):
        yield "problem", f"Every backup fails: {trouble}", "docs/settings.md, Encryption"
        return
    drill = state().drills.last() if settings.backup_state_file.exists() else None
    if doubt := key_doubt(encryption, drill, opened.records()):
        yield "warning", doubt, "Set BACKUP_ENCRYPTION_IDENTITY_FILE for one `resurgam drill`, and unset it again."
        return
    by = "to recipients" if encryption.recipients else "by a passphrase; keep a copy of it off this machine"
    yield "ok", f"New archives are encrypted ({encryption.kind}) {by}.", ""


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

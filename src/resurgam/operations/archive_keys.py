"""What encrypts archives and what opens them, made of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from resurgam.archive.sealing import ArchiveKeys, Sealing
from resurgam.errors import KeyRefused
from resurgam.keys.age import Identity, parse_identities
from resurgam.keys.passphrase import asking
from resurgam.settings import Settings


def archive_keys_of(settings: Settings, environment: Mapping[str, str]) -> ArchiveKeys:
    """What opens encrypted archives; nothing is read or run before it is needed."""

    @cache
    def identities() -> tuple[Identity, ...]:
        path = settings.encryption.identity_file
        return () if path is None else read_identities(path)

    ask = asking(settings.encryption, environment)
    return ArchiveKeys(ask, identities, scratch=settings.backup_dir, search_path=environment.get("PATH"))


def sealing_of(settings: Settings, keys: ArchiveKeys) -> Sealing | None:
    """How new archives are encrypted, None if they are not."""
    encryption = settings.encryption
    return None if encryption.kind is None else Sealing(encryption.kind, keys, encryption.recipients)


def read_identities(path: Path) -> tuple[Identity, ...]:
    """The identities of a file. KeyRefused if it can't be read or holds none."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise KeyRefused(
            f"BACKUP_ENCRYPTION_IDENTITY_FILE {path} can not be read ({why}).",
            "Check its path, its owner and its mode.",
        ) from None
    return parse_identities(text)

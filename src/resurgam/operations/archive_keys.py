"""What encrypts archives and what opens them, made of the settings."""

from __future__ import annotations

from collections.abc import Mapping

from resurgam.archive.sealing import ArchiveKeys, Sealing
from resurgam.errors import KeyRefused
from resurgam.keys.age import Identity, parse_identities, parse_recipient
from resurgam.keys.passphrase import asking
from resurgam.settings import Settings


def archive_keys_of(settings: Settings, environment: Mapping[str, str]) -> ArchiveKeys:
    """What opens encrypted archives. KeyRefused if the identity file can't be read or holds none."""
    encryption = settings.encryption
    identities: tuple[Identity, ...] = ()
    if encryption.identity_file is not None:
        try:
            identities = parse_identities(encryption.identity_file.read_text())
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise KeyRefused(
                f"BACKUP_ENCRYPTION_IDENTITY_FILE {encryption.identity_file} can not be read ({why}).",
                "Check its path, its owner and its mode.",
            ) from None
    return ArchiveKeys(
        asking(encryption, environment), identities, scratch=settings.backup_dir, search_path=environment.get("PATH")
    )


def sealing_of(settings: Settings, keys: ArchiveKeys) -> Sealing | None:
    """How new archives are encrypted, None if they are not. KeyRefused if a recipient is none."""
    encryption = settings.encryption
    if encryption.kind is None:
        return None
    return Sealing(encryption.kind, keys, tuple(map(parse_recipient, encryption.recipients)))

"""The passphrase that the settings lead to: their own, or what a command of the user's prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from resurgam.errors import KeyRefused
from resurgam.settings.encryption import unfit
from resurgam.settings.model import Encryption
from resurgam.settings.secret import Secret

_SECONDS = 60.0


def asking(encryption: Encryption, environment: Mapping[str, str]) -> Callable[[], Secret | None]:
    """How to get the passphrase, None where none is set. A command runs once, when it is first needed: KeyRefused if it
    fails, takes more than a minute, or prints no passphrase.
    """

    @cache
    def ask() -> Secret | None:
        if encryption.key is not None or not encryption.key_command:
            return encryption.key
        # Imported only where it is needed: the key ring comes with it.
        from resurgam.keys.unlock import Unlocking, passphrase_of

        command = encryption.key_command
        key = passphrase_of(Unlocking(passphrase_command=command, command_seconds=_SECONDS, environ=environment))
        if key is not None and (why := unfit(key)):
            raise KeyRefused(f"What BACKUP_ENCRYPTION_KEY_COMMAND prints {why}.", "Its first line is the passphrase.")
        return key

    return ask

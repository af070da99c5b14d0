"""The passphrase that the settings lead to: their own, or what a command of the user's prints."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from functools import cache

from resurgam.errors import KeyRefused
from resurgam.settings.encryption import unfit
from resurgam.settings.inherited import inherited
from resurgam.settings.model import Encryption
from resurgam.settings.secret import Secret

_SECONDS = 60
_NAME = "BACKUP_ENCRYPTION_KEY_COMMAND"


def asking(encryption: Encryption, environment: Mapping[str, str]) -> Callable[[], Secret | None]:
    """How to get the passphrase, None where none is set. A command runs once, when it is first needed: KeyRefused if it
    fails, takes more than a minute, or prints no passphrase. What it prints is in no message.
    """

    @cache
    def ask() -> Secret | None:
        if encryption.key is not None or not encryption.key_command:
            return encryption.key
        return _printed(encryption.key_command, environment)

    return ask


def _printed(command: tuple[str, ...], environment: Mapping[str, str]) -> Secret:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=inherited(environment),
            timeout=_SECONDS,
            check=False,
        )
    except OSError as error:
        raise KeyRefused(
            f"{_NAME} can not be run ({error.strerror}).", "It names a program and its arguments."
        ) from None
    except subprocess.TimeoutExpired:
        raise KeyRefused(f"{_NAME} has not answered within {_SECONDS} s.", "It must not ask for anything.") from None
    if done.returncode != 0:
        raise KeyRefused(f"{_NAME} failed with exit code {done.returncode}.", "Run it by hand to see why.")
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
    key = Secret(lines[0] if lines else "")
    if why := unfit(key):
        raise KeyRefused(f"What {_NAME} prints {why}.", "Its first line of output is the passphrase.")
    return key

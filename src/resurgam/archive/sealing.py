"""How archives are encrypted, and by what they are opened: values, without I/O (docs/archive-format.md, 32, 33)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from resurgam.errors import KeyRefused
from resurgam.keys.age import Identity
from resurgam.settings.secret import Secret


def _no_passphrase() -> Secret | None:
    return None


def _no_identities() -> tuple[Identity, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class ArchiveKeys:
    """What opens encrypted archives here: nothing, unless it is given.

    Passphrase and identities are asked for when they are needed; either may raise KeyRefused. `scratch` is the folder
    whose disk holds what gpg decrypts, encrypted; `search_path` is where gpg is looked for. `known` are file keys of
    age files that were opened already, by their headers' MACs.
    """

    ask_passphrase: Callable[[], Secret | None] = _no_passphrase
    ask_identities: Callable[[], tuple[Identity, ...]] = _no_identities
    scratch: Path | None = None
    search_path: str | None = None
    known: dict[bytes, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def passphrase(self) -> Secret | None:
        return self.ask_passphrase()

    @property
    def identities(self) -> tuple[Identity, ...]:
        return self.ask_identities()

    @property
    def has_identities(self) -> bool:
        """Whether there are some that can be used."""
        try:
            return bool(self.identities)
        except KeyRefused:
            return False


NO_KEYS = ArchiveKeys()


@dataclass(frozen=True, slots=True)
class Sealing:
    """How new archives are encrypted: to the recipients (`age1…`) if there are any, else by the keys' passphrase."""

    kind: Literal["age", "gpg"]
    keys: ArchiveKeys
    recipients: tuple[str, ...] = ()

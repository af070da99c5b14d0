"""How archives are encrypted, and by what they are opened: values, without I/O (docs/archive-format.md, 32, 33)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from blake3 import blake3

from resurgam.keys.age import Identity, Recipient
from resurgam.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class ArchiveKeys:
    """What opens encrypted archives here: nothing, unless it is given.

    `ask` gets the passphrase when it is needed, None if there is none. `scratch` is the folder whose disk holds what
    gpg decrypts, encrypted; `search_path` is where gpg is looked for.
    `known` are file keys of age files that were opened already, by their headers' MACs.
    """

    ask: Callable[[], Secret | None] = lambda: None
    identities: tuple[Identity, ...] = ()
    scratch: Path | None = None
    search_path: str | None = None
    known: dict[bytes, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def passphrase(self) -> Secret | None:
        return self.ask()

    @property
    def tag(self) -> int:
        """Another number for other identities, in 63 bits, made of what is public of them."""
        publics = b"".join(sorted(one.recipient.public for one in self.identities))
        return int.from_bytes(blake3(publics).digest(8), "big") >> 1 if publics else 0


NO_KEYS = ArchiveKeys()


@dataclass(frozen=True, slots=True)
class Sealing:
    """How new archives are encrypted: for the recipients if there are any (age), otherwise by the keys' passphrase."""

    kind: Literal["age", "gpg"]
    keys: ArchiveKeys
    recipients: tuple[Recipient, ...] = ()

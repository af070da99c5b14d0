"""Opens a repository's key ring with what the settings give: a passphrase, an age identity, a recovery kit, or a
writer key.

Exactly one way may be given; two would hide which of them is wrong. Nothing secret stands in a message, an argument
list or a repr: of a command that fails only its program's name is told.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, TypeVar

from resurgam import processes
from resurgam.errors import DamagedError, KeyRefused, SettingsError
from resurgam.keys.kit import LARGEST, parse_kit
from resurgam.keys.open_ring import OpenRing, unlock_by_identity, unlock_by_passphrase
from resurgam.keys.ring import KeyRing
from resurgam.keys.secrets import Secrets
from resurgam.keys.slots import Identity, parse_identity
from resurgam.keys.writer_key import read_writer_key, with_newest_epoch
from resurgam.settings.inherited import inherited
from resurgam.settings.secret import Secret

_LONGEST_ANSWER = 65536
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Unlocking:
    """What the settings give. `passphrase` is BACKUP_ENCRYPTION_KEY or its file's content; the command is run without a
    shell, with what passes of `environ`, and has `command_seconds`."""

    passphrase: Secret | None = None
    passphrase_command: tuple[str, ...] = field(default=(), repr=False)
    identity_file: Path | None = None
    kit_file: Path | None = None
    writer_key_file: Path | None = None
    command_seconds: float = 60.0
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def writes_only(self) -> bool:
        return self.writer_key_file is not None


class Rings(Protocol):
    """Where the ring is read from."""

    def read(self) -> tuple[KeyRing, ...]:
        """The newest generation: one ring, or two where its copies differ and either may be the forged one."""


@dataclass(frozen=True, slots=True)
class Unlocked:
    """`secrets` to work with, and the ring that gave them (its generation stands in every manifest)."""

    secrets: Secrets
    ring: KeyRing


def unlock(rings: Rings, unlocking: Unlocking) -> Unlocked:
    """What a backup or a restore works with.

    SettingsError if several ways are given; KeyRefused if none is, or the key is wrong; DamagedError if the ring was
    forged, RepositoryError if it is not this repository's.
    """
    if unlocking.writer_key_file is None:
        opened = open_ring(rings, unlocking)
        return Unlocked(opened.secrets, opened.ring)
    _only_one(unlocking)
    key = read_writer_key(unlocking.writer_key_file)
    return _first(rings.read(), lambda ring: Unlocked(with_newest_epoch(key, ring), ring))


def open_ring(rings: Rings, unlocking: Unlocking) -> OpenRing:
    """The ring opened by a full key, as changes of it need. Errors as `unlock`; KeyRefused if only a writer key is
    given."""
    _only_one(unlocking)
    if unlocking.identity_file is not None:
        identities = _identities(unlocking.identity_file)
        return _first(rings.read(), lambda ring: _by_any(ring, identities))
    if unlocking.kit_file is not None:
        return open_with(rings, read_kit(unlocking.kit_file))
    passphrase = passphrase_of(unlocking)
    if passphrase is not None:
        return _first(rings.read(), lambda ring: unlock_by_passphrase(ring, passphrase))
    if unlocking.writes_only:
        raise KeyRefused(
            "This machine holds a write-only key, which can add backups and do nothing else; nothing was touched.",
            "Do it on a machine that has the passphrase, or with the recovery kit.",
        )
    raise KeyRefused(
        "The repository is encrypted, and no key is set; nothing was touched.",
        "Set BACKUP_ENCRYPTION_KEY, BACKUP_ENCRYPTION_KEY_FILE or BACKUP_RECOVERY_KIT_FILE.",
    )


def passphrase_of(unlocking: Unlocking) -> Secret | None:
    """The passphrase that is given, by itself or by a command. KeyRefused if the command fails."""
    if unlocking.passphrase_command:
        return _ask(unlocking.passphrase_command, unlocking.command_seconds, unlocking.environ)
    return unlocking.passphrase


def open_with(rings: Rings, identity: Identity) -> OpenRing:
    """The ring opened by that identity and nothing else. KeyRefused, DamagedError."""
    return _first(rings.read(), lambda ring: unlock_by_identity(ring, identity))


def read_passphrase(path: Path) -> Secret:
    """A passphrase from a file: its text without the line's end. KeyRefused if there is none."""
    return Secret(_line(_content(path, "passphrase", _LONGEST_ANSWER), f"{path} holds no passphrase of one line."))


def read_kit(path: Path) -> Identity:
    """A recovery kit from its file, text or HTML. KeyRefused if it can't be read, or is mistyped."""
    return parse_kit(_content(path, "recovery kit", LARGEST).decode("utf-8", "replace"))


def _only_one(unlocking: Unlocking) -> None:
    given = {
        "BACKUP_ENCRYPTION_KEY": unlocking.passphrase is not None,
        "BACKUP_ENCRYPTION_KEY_COMMAND": bool(unlocking.passphrase_command),
        "BACKUP_ENCRYPTION_IDENTITY_FILE": unlocking.identity_file is not None,
        "BACKUP_RECOVERY_KIT_FILE": unlocking.kit_file is not None,
        "BACKUP_WRITER_KEY_FILE": unlocking.writer_key_file is not None,
    }
    names = [name for name, there in given.items() if there]
    if len(names) > 1:
        raise SettingsError(
            f"Several keys are set: {' and '.join(names)}. Nothing was touched.", "Leave the one that shall open it."
        )


def _first(rings: tuple[KeyRing, ...], opening: Callable[[KeyRing], _T]) -> _T:
    """By the first ring that opens; what the first said if none does."""
    refused: KeyRefused | DamagedError | None = None
    for ring in rings:
        try:
            return opening(ring)
        except (KeyRefused, DamagedError) as error:
            refused = refused or error
    assert refused is not None, "a store answers at least one ring, or raises"
    raise refused


def _by_any(ring: KeyRing, identities: tuple[Identity, ...]) -> OpenRing:
    recipients = {slot.recipient for slot in ring.slots}
    fitting = [identity for identity in identities if identity.recipient in recipients]
    return unlock_by_identity(ring, (fitting or identities)[0])


def _identities(path: Path) -> tuple[Identity, ...]:
    """A file as `age-keygen` writes it: a line each, and comments."""
    text = _content(path, "age identity", _LONGEST_ANSWER).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines()]
    found = tuple(parse_identity(line) for line in lines if line and not line.startswith("#"))
    if not found:
        raise KeyRefused(f"{path} holds no age identity.", "`age-keygen -o FILE` makes one.")
    return found


def _content(path: Path, what: str, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise KeyRefused(f"The {what} {path} can not be read: {error.strerror}.") from None
    if len(data) > most:
        raise KeyRefused(f"{path} is too large to hold a {what}.")
    return data


def _line(data: bytes, otherwise: str) -> str:
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        text = ""
    if not text or any(character in text for character in "\n\r\0"):
        raise KeyRefused(otherwise)
    return text


def _ask(command: tuple[str, ...], seconds: float, environ: Mapping[str, str]) -> Secret:
    """The first line that the command prints; KeyRefused if it fails, prints none or takes longer."""
    name = f"BACKUP_ENCRYPTION_KEY_COMMAND ({Path(command[0]).name})"
    hint = "Run the command by hand; it is run without a shell, and must print the passphrase as its first line."
    try:
        process = processes.start(command, inherited(environ), stderr=subprocess.DEVNULL, own_session=True)
    except OSError as error:
        raise KeyRefused(f"{name} could not be started: {error.strerror}.", hint) from None
    deadline = time.monotonic() + seconds
    try:
        assert process.stdout is not None
        printed = _until(process.stdout, deadline)
        status = process.wait(max(0.1, deadline - time.monotonic()))
    except (subprocess.TimeoutExpired, TimeoutError):
        raise KeyRefused(
            f"{name} took longer than {seconds:g} s, or printed without end, and was ended.", hint
        ) from None
    finally:
        processes.end_group(process)
        if process.stdout is not None:
            process.stdout.close()
    if status != 0:
        raise KeyRefused(f"{name} failed with exit status {status}.", hint)
    first = printed.split(b"\n", 1)[0]
    return Secret(_line(first, f"{name} printed no passphrase."))


def _until(stream: IO[bytes], deadline: float) -> bytes:
    """All that is printed. TimeoutError after `deadline`, or if it is more than any passphrase."""
    printed = b""
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while ready.select(max(0.0, deadline - time.monotonic())):
            piece = os.read(stream.fileno(), 65536)
            if not piece:
                return printed
            printed += piece
            if len(printed) > _LONGEST_ANSWER:
                break
    raise TimeoutError

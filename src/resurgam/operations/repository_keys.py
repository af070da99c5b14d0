"""Who may open a repository: slots added and removed, rotation, the recovery kit, write-only hosts.

Each is one change of the key ring (docs/ordering.md, sentences 62 and 63). Nothing secret is in a result; a kit and a
writer key go into their files and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resurgam.clock import Clock
from resurgam.durable import create_file
from resurgam.errors import ResurgamError, StorageError, UsageError
from resurgam.keys.kit import Kit, parse_kit
from resurgam.keys.kit_sheet import as_html, as_text
from resurgam.keys.open_ring import OpenRing, find_slot
from resurgam.keys.ring import KeyRing, moment_json
from resurgam.keys.secrets import Secrets
from resurgam.keys.slots import Slot, new_identity
from resurgam.keys.unlock import Unlocking, open_ring, open_with
from resurgam.keys.writer_key import write_writer_key, writer_key
from resurgam.repository.ring_store import RingStore
from resurgam.settings.secret import Secret

_KIT = "recovery kit"


@dataclass(frozen=True, slots=True)
class KeyAccess:
    """What these operations work with. `app` and `url` stand on the kit; `try_out` opens the repository with secrets
    and raises if it can't."""

    rings: RingStore
    unlocking: Unlocking
    clock: Clock
    app: str
    url: str
    try_out: Callable[[Secrets], object]


@dataclass(frozen=True, slots=True)
class KeysChanged:
    """The slot that a change was about, those that it ended besides, and the ring that is in force now."""

    slot: Slot | None
    ended: tuple[Slot, ...]
    ring: KeyRing

    def to_json(self) -> dict[str, Any]:
        slot = None if self.slot is None else slot_json(self.slot)
        ended = [slot_json(one) for one in self.ended]
        return {"success": True, "slot": slot, "ended": ended, **ring_json(self.ring)}


def list_keys(access: KeyAccess) -> tuple[KeyRing, tuple[str, ...]]:
    """The ring as it lies there, and what is wrong with it. No key is asked for, so a forger's ring would be shown
    too."""
    found = access.rings.look()
    return found.rings[0], found.warnings


def add_passphrase(access: KeyAccess, passphrase: Secret, name: str) -> KeysChanged:
    """KeyRefused if it is too short; UsageError if there is a slot of that name."""
    return _add(access, open_ring(access.rings, access.unlocking).add_passphrase(passphrase, name, access.clock.now()))


def add_recipient(access: KeyAccess, recipient: str, name: str) -> KeysChanged:
    """UsageError if it is no age recipient, has a slot, or there is one of that name."""
    return _add(access, open_ring(access.rings, access.unlocking).add_recipient(recipient, name, access.clock.now()))


def change_passphrase(access: KeyAccess, passphrase: Secret, wanted: str | None = None) -> KeysChanged:
    """Another passphrase for that slot, or for the one in use: no data is touched. NotFoundError, UsageError,
    KeyRefused."""
    opened = open_ring(access.rings, access.unlocking)
    old = opened.slot(opened.opened_by if wanted is None else wanted)
    changed = opened.change_passphrase(old.id, passphrase, access.clock.now())
    access.rings.replace(changed.ring)
    return KeysChanged(find_slot(changed.ring, old.name), (old,), changed.ring)


def remove_slot(access: KeyAccess, wanted: str) -> KeysChanged:
    """NotFoundError; UsageError if nobody would be known to open what remains."""
    opened = open_ring(access.rings, access.unlocking)
    gone = opened.slot(wanted)
    changed = opened.remove(gone.id)
    access.rings.replace(changed.ring)
    return KeysChanged(None, (gone,), changed.ring)


def rotate(access: KeyAccess) -> KeysChanged:
    """A new access key and a new epoch. `ended` are the passphrases that were not in use, and open nothing any more."""
    rotated, dropped = open_ring(access.rings, access.unlocking).rotate(access.clock.now())
    access.rings.replace(rotated.ring)
    return KeysChanged(None, dropped, rotated.ring)


def make_kit(access: KeyAccess, out: Path) -> KeysChanged:
    """A recovery kit in a new file, `.txt` or `.html`, of mode 0600; unproven.

    The file is durable before the ring counts on it. UsageError if the file is there, or of another kind.
    """
    sheet = {".txt": as_text, ".html": as_html}.get(out.suffix.lower())
    if sheet is None:
        raise UsageError("A recovery kit is a .txt or a .html file; nothing was made.", "--out recovery-kit.html")
    opened = open_ring(access.rings, access.unlocking)
    identity, now = new_identity(), access.clock.now()
    changed = opened.add_kit(identity, _free_name(opened.ring), now)
    slot = changed.ring.slots[-1]
    kit = Kit(changed.ring.repository, access.app, access.url, slot.id, now, identity)
    _write_new(out, sheet(kit).encode())
    try:
        access.rings.replace(changed.ring)
    except ResurgamError:
        if not _may_have(access.rings, slot.recipient):
            out.unlink(missing_ok=True)
        raise
    return KeysChanged(slot, (), changed.ring)


def prove_kit(access: KeyAccess, given: str) -> KeysChanged:
    """The kit as it was typed, or its file's content: it opens the ring and the repository, with nothing else.

    KeyRefused names the lines that were mistyped; whatever `try_out` raises means that it is not proven.
    """
    opened = open_with(access.rings, parse_kit(given))
    access.try_out(opened.secrets)
    proven = opened.kit_proven(opened.opened_by, access.clock.now())
    access.rings.replace(proven.ring)
    return KeysChanged(proven.slot(opened.opened_by), (), proven.ring)


def make_writer_key(access: KeyAccess, out: Path) -> KeyRing:
    """What a write-only host gets, in a new file of mode 0600. UsageError if it is there; the ring is not changed."""
    opened = open_ring(access.rings, access.unlocking)
    write_writer_key(out, writer_key(opened))
    return opened.ring


def ring_json(ring: KeyRing) -> dict[str, Any]:
    """What everybody may know of a ring."""
    return {
        "repository": ring.repository.hex(),
        "generation": ring.generation,
        "epoch": ring.newest.number,
        "slots": [slot_json(slot) for slot in ring.slots],
    }


def slot_json(slot: Slot) -> dict[str, Any]:
    return {
        "id": slot.id,
        "kind": slot.kind,
        "name": slot.name,
        "created_at": moment_json(slot.created),
        "recipient": slot.recipient or None,
        "proven_at": None if slot.proven is None else moment_json(slot.proven),
    }


def _add(access: KeyAccess, changed: OpenRing) -> KeysChanged:
    access.rings.replace(changed.ring)
    return KeysChanged(changed.ring.slots[-1], (), changed.ring)


def _free_name(ring: KeyRing) -> str:
    taken = {slot.name for slot in ring.slots}
    names = [_KIT, *(f"{_KIT} {number}" for number in range(2, len(taken) + 2))]
    return next(name for name in names if name not in taken)


def _write_new(path: Path, data: bytes) -> None:
    try:
        create_file(path, data)
    except FileExistsError:
        raise UsageError(f"{path} is there already; nothing was made.", "Give another name.") from None
    except OSError as error:
        raise StorageError(f"{path} can not be written ({error.strerror}); no kit was made.") from None


def _may_have(rings: RingStore, recipient: str) -> bool:
    """Whether a ring with that recipient may be in force, so that its kit must not be lost."""
    try:
        return any(slot.recipient == recipient for ring in rings.read() for slot in ring.slots)
    except ResurgamError:
        return True

"""An opened key ring, and every change of it (docs/repository-format.md, sentences 25 to 27). Values in, values out.

Each change is a new ring of the next generation; storing it is repository/ring_store.py's part. A ring is never left
that nobody is known to open: a recovery kit counts only once it was proven.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NoReturn

from resurgam.errors import DamagedError, KeyRefused, NotFoundError, UsageError
from resurgam.keys.ring import (
    LAST_GENERATION,
    MOST_SLOTS,
    KeyRing,
    RingEpoch,
    sign,
    signed_by,
    verifying_key,
)
from resurgam.keys.sealed import check_new_passphrase, seal, unseal
from resurgam.keys.secrets import KEY, Secrets, derive, full_secrets, new_private_key, public_key
from resurgam.keys.slots import (
    Identity,
    Slot,
    check_name,
    check_recipient,
    open_by_identity,
    open_by_passphrase,
    passphrase_slot,
    recipient_slot,
    wrap_to,
)
from resurgam.settings.secret import Secret


@dataclass(frozen=True, slots=True)
class OpenRing:
    """A ring with what it seals. `private` holds each epoch's private key.

    `opened_by` is the id of the slot that did it, `passphrase` what opened it, if one did.
    """

    ring: KeyRing
    opened_by: str
    access: bytes = field(repr=False)
    root: bytes = field(repr=False)
    private: Mapping[int, bytes] = field(repr=False)
    passphrase: Secret | None = None

    @property
    def secrets(self) -> Secrets:
        return full_secrets(self.root, self.ring.repository, self.private)

    def slot(self, wanted: str) -> Slot:
        """By id or name. NotFoundError if there is none."""
        return find_slot(self.ring, wanted)

    def add_passphrase(self, passphrase: Secret, name: str, when: datetime) -> OpenRing:
        """KeyRefused if the passphrase is too short."""
        check_new_passphrase(passphrase.reveal())
        return self._with_slot(
            passphrase_slot(self.access, self.ring.repository, passphrase.reveal(), check_name(name), when)
        )

    def add_recipient(self, recipient: str, name: str, when: datetime) -> OpenRing:
        """UsageError if it is no age recipient, or has a slot already."""
        return self._with_slot(recipient_slot(self.access, check_recipient(recipient), check_name(name), when))

    def add_kit(self, identity: Identity, name: str, when: datetime) -> OpenRing:
        """A slot for a recovery kit's identity, unproven."""
        return self._with_slot(recipient_slot(self.access, identity.recipient, check_name(name), when, "kit"))

    def change_passphrase(self, wanted: str, passphrase: Secret, when: datetime) -> OpenRing:
        """Another passphrase for that slot, whose access key stays the same. UsageError if it has none."""
        check_new_passphrase(passphrase.reveal())
        old = self.slot(wanted)
        if old.kind != "passphrase":
            raise UsageError(f"The slot {old.name} ({old.id}) has no passphrase; nothing was changed.")
        new = passphrase_slot(self.access, self.ring.repository, passphrase.reveal(), old.name, when)
        slots = tuple(new if slot.id == old.id else slot for slot in self.ring.slots)
        changed = self._changed(replace(self.ring, slots=slots))
        return replace(changed, opened_by=new.id, passphrase=passphrase) if self.opened_by == old.id else changed

    def remove(self, wanted: str) -> OpenRing:
        """Without that slot. UsageError if nobody would be known to open what remains.

        Whoever had it may have kept what it opened: only `rotate` ends their reading of what is written from then on.
        """
        gone = self.slot(wanted)
        rest = tuple(slot for slot in self.ring.slots if slot.id != gone.id)
        if not any(_opens(slot) for slot in rest):
            left = " Only a recovery kit that was never proven would remain." if rest else ""
            raise UsageError(
                f"The slot {gone.name} ({gone.id}) is the last that is known to open the repository, and stays." + left,
                "Prove the kit first: resurgam keys kit --prove." if rest else "Add another first: resurgam keys add.",
            )
        return self._changed(replace(self.ring, slots=rest))

    def rotate(self, when: datetime) -> tuple[OpenRing, tuple[Slot, ...]]:
        """A new access key and a new epoch; and the slots that dropped out, since their passphrases are not known here.

        Whoever was removed before opens nothing that is sealed to the new epoch.
        """
        access = secrets.token_bytes(KEY)
        repository = self.ring.repository
        slots, dropped, opened_by = [], [], self.opened_by
        for slot in self.ring.slots:
            if slot.kind != "passphrase":
                slots.append(replace(slot, wrapped=wrap_to(access, slot.recipient)))
            elif self.passphrase is not None and slot.id == self.opened_by:
                anew = passphrase_slot(access, repository, self.passphrase.reveal(), slot.name, when)
                opened_by = anew.id
                slots.append(replace(anew, created=slot.created))
            else:
                dropped.append(slot)
        if not any(_opens(slot) for slot in slots):
            raise UsageError(
                "After a rotation nobody would be known to open the repository; nothing was changed.",
                "Open it by a passphrase, prove the recovery kit, or add a recipient first.",
            )
        number = self.ring.newest.number + 1
        private = {**self.private, number: new_private_key()}
        created = {epoch.number: epoch.created for epoch in self.ring.epochs} | {number: when}
        ring = replace(
            self.ring,
            root=seal(access, repository, "root", self.root),
            epochs=_sealed_epochs(access, repository, private, created),
            slots=tuple(slots),
        )
        rotated = replace(self, access=access, private=private, opened_by=opened_by)
        return rotated._changed(ring), tuple(dropped)

    def kit_proven(self, wanted: str, when: datetime) -> OpenRing:
        """Its kit was given back, and the repository opened by it alone. UsageError if the slot is no kit's."""
        kit = self.slot(wanted)
        if kit.kind != "kit":
            raise UsageError(f"The slot {kit.name} ({kit.id}) is no recovery kit's; nothing was changed.")
        slots = tuple(replace(slot, proven=when) if slot.id == kit.id else slot for slot in self.ring.slots)
        return self._changed(replace(self.ring, slots=slots))

    def _with_slot(self, slot: Slot) -> OpenRing:
        slots = self.ring.slots
        if len(slots) >= MOST_SLOTS:
            raise UsageError(f"A key ring has at most {MOST_SLOTS} slots; nothing was changed.")
        if slot.recipient and any(slot.recipient == other.recipient for other in slots):
            raise UsageError("That recipient has a slot already; nothing was changed.", "resurgam keys list")
        if any(slot.name == other.name for other in slots):
            raise UsageError(f"There is a slot {slot.name} already; nothing was changed.", "Give another --name.")
        return self._changed(replace(self.ring, slots=(*slots, slot)))

    def _changed(self, ring: KeyRing) -> OpenRing:
        if ring.generation >= LAST_GENERATION:
            raise UsageError("The key ring was changed as often as it can be; nothing was changed.")
        signing = derive(self.root, ring.repository, "ring")
        return replace(self, ring=sign(replace(ring, generation=ring.generation + 1), signing))


def create_ring(
    repository: bytes, when: datetime, passphrase: Secret | None, recipients: Sequence[tuple[str, str]] = ()
) -> OpenRing:
    """The first generation of a new repository's ring, with a new root.

    `recipients` are (name, age recipient). UsageError without any way to open it; KeyRefused, UsageError as `add_…`.
    """
    access, root, private = secrets.token_bytes(KEY), secrets.token_bytes(KEY), {1: new_private_key()}
    empty = KeyRing(
        repository,
        0,
        seal(access, repository, "root", root),
        _sealed_epochs(access, repository, private, {1: when}),
        (),
    )
    opened = OpenRing(empty, "", access, root, private, passphrase)
    if passphrase is not None:
        opened = opened.add_passphrase(passphrase, "passphrase", when)
    for name, recipient in recipients:
        opened = opened.add_recipient(recipient, name, when)
    if not opened.ring.slots:
        raise UsageError(
            "A repository needs a passphrase or a recipient that opens it; nothing was made.",
            "Set BACKUP_ENCRYPTION_KEY or BACKUP_ENCRYPTION_KEY_FILE.",
        )
    first = sign(replace(opened.ring, generation=1), derive(root, repository, "ring"))
    return replace(opened, ring=first, opened_by=first.slots[0].id)


def unlock_by_passphrase(ring: KeyRing, passphrase: Secret) -> OpenRing:
    """KeyRefused if it opens no slot; DamagedError if what it opens was forged."""
    tried = [slot for slot in ring.slots if slot.kind == "passphrase"]
    for slot in tried:
        access = open_by_passphrase(slot, ring.repository, passphrase.reveal())
        if access is not None:
            return _opened(ring, slot, access, passphrase)
    if not tried:
        raise KeyRefused("No passphrase opens this repository; nothing was touched.", _other_ways(ring))
    raise KeyRefused(
        "The passphrase is wrong: it does not open this repository. Nothing was touched.",
        f"Check BACKUP_ENCRYPTION_KEY: case and blanks count. {_other_ways(ring)}".strip(),
    )


def unlock_by_identity(ring: KeyRing, identity: Identity) -> OpenRing:
    """By an age identity, a recovery kit's too. KeyRefused, DamagedError as by a passphrase."""
    recipient = identity.recipient
    for slot in ring.slots:
        if slot.recipient == recipient:
            access = open_by_identity(slot, identity)
            if access is None:
                _forged()
            return _opened(ring, slot, access)
    raise KeyRefused(
        f"This key opens no slot of the repository {ring.repository.hex()}: it is another repository's, or was "
        "removed. Nothing was touched.",
        "`resurgam keys list` shows what opens it.",
    )


def find_slot(ring: KeyRing, wanted: str) -> Slot:
    """By id or name. NotFoundError if there is none."""
    for slot in sorted(ring.slots, key=lambda slot: slot.id != wanted):
        if wanted in (slot.id, slot.name):
            return slot
    raise NotFoundError("The key ring has no such slot; nothing was changed.", "resurgam keys list")


def _opened(ring: KeyRing, slot: Slot, access: bytes, passphrase: Secret | None = None) -> OpenRing:
    """Everything that the ring seals, once its signature holds."""
    root = unseal(access, ring.repository, "root", ring.root)
    if root is None or len(root) != KEY or not signed_by(ring, verifying_key(derive(root, ring.repository, "ring"))):
        _forged()
    private = {}
    for epoch in ring.epochs:
        key = unseal(access, ring.repository, f"private {epoch.number}", epoch.private)
        if key is None or len(key) != KEY or public_key(key) != epoch.public:
            _forged()
        private[epoch.number] = key
    return OpenRing(ring, slot.id, access, root, private, passphrase)


def _sealed_epochs(
    access: bytes, repository: bytes, private: Mapping[int, bytes], created: Mapping[int, datetime]
) -> tuple[RingEpoch, ...]:
    return tuple(
        RingEpoch(number, public_key(key), seal(access, repository, f"private {number}", key), created[number])
        for number, key in sorted(private.items())
    )


def _opens(slot: Slot) -> bool:
    """Whether somebody is known to open it: a kit's sheet may be unreadable, or gone."""
    return slot.kind != "kit" or slot.proven is not None


def _other_ways(ring: KeyRing) -> str:
    ways = []
    if any(slot.kind == "kit" for slot in ring.slots):
        ways.append("the recovery kit (BACKUP_RECOVERY_KIT_FILE)")
    if any(slot.kind == "age" for slot in ring.slots):
        ways.append("an age identity (BACKUP_ENCRYPTION_IDENTITY_FILE)")
    return f"It can also be opened with {' or '.join(ways)}." if ways else ""


def _forged() -> NoReturn:
    raise DamagedError(
        "The key ring was changed by somebody without the repository's keys; nothing was touched.",
        "Bring back keys/ from a copy of the repository.",
    )

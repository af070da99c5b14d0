"""Opening a ring and changing it: who opens what, before and after (docs/repository-format.md, sentences 26 and 27)."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from resurgam.errors import DamagedError, KeyRefused, NotFoundError, UsageError
from resurgam.keys import sealed
from resurgam.keys.open_ring import OpenRing, create_ring, unlock_by_identity, unlock_by_passphrase
from resurgam.keys.ring import MOST_SLOTS, decode, encode
from resurgam.keys.secrets import full_secrets, new_data_key, unwrap_data_key
from resurgam.keys.slots import new_identity
from resurgam.settings.secret import Secret
from tests.keys.rings import PASSPHRASE, REPOSITORY, WHEN, forged, opened_ring


def stored(opened: OpenRing) -> Any:
    """The ring as a reader gets it."""
    return decode(encode(opened.ring), REPOSITORY)


def test_each_way_opens_to_the_same_keys() -> None:
    opened, ops, kit = opened_ring()
    for again in (
        unlock_by_passphrase(stored(opened), PASSPHRASE),
        unlock_by_identity(stored(opened), ops),
        unlock_by_identity(stored(opened), kit),
    ):
        assert (again.root, again.access, again.private) == (opened.root, opened.access, opened.private)
        assert again.secrets == full_secrets(opened.root, REPOSITORY, opened.private)
        assert again.secrets.can_read


def test_two_repositories_share_no_key() -> None:
    one, other = create_ring(REPOSITORY, WHEN, PASSPHRASE), create_ring(REPOSITORY, WHEN, PASSPHRASE)
    assert one.root != other.root
    assert one.access != other.access
    assert one.private != other.private


@pytest.mark.parametrize("wrong", ["correct horse batterz", "Correct horse battery", "correct horse battery ", "x"])
def test_a_wrong_passphrase_is_one_clear_line(wrong: str) -> None:
    opened, *_ = opened_ring()
    with pytest.raises(KeyRefused) as caught:
        unlock_by_passphrase(stored(opened), Secret(wrong))
    assert caught.value.message == ("The passphrase is wrong: it does not open this repository. Nothing was touched.")
    assert "BACKUP_RECOVERY_KIT_FILE" in caught.value.hint
    assert wrong not in caught.value.message.split() + caught.value.hint.split()


def test_another_repositorys_identity_opens_nothing() -> None:
    with pytest.raises(KeyRefused, match="opens no slot"):
        unlock_by_identity(stored(opened_ring()[0]), new_identity())


def test_without_a_passphrase_slot_no_passphrase_is_blamed() -> None:
    opened, *_ = opened_ring(passphrase=None)
    with pytest.raises(KeyRefused, match="No passphrase opens this repository") as caught:
        unlock_by_passphrase(stored(opened), PASSPHRASE)
    assert "an age identity" in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("caf\u00e9 und tee", "cafe\u0301 und tee"),
        ("eins\u00a0zwei drei", "eins zwei drei"),
        ("ｗｉｄｅ letters", "wide letters"),
    ],
)
def test_a_passphrase_is_the_same_on_every_keyboard(typed: str, meant: str) -> None:
    opened = create_ring(REPOSITORY, WHEN, Secret(typed))
    assert unlock_by_passphrase(stored(opened), Secret(meant)).root == opened.root


@pytest.mark.parametrize("bad", ["", "short", "x" * 4097, "lone \udc80 surrogate"])
def test_a_bad_new_passphrase_is_refused(bad: str) -> None:
    with pytest.raises(KeyRefused):
        create_ring(REPOSITORY, WHEN, Secret(bad))


def test_a_repository_that_nobody_opens_is_not_made() -> None:
    with pytest.raises(UsageError, match="needs a passphrase or a recipient"):
        create_ring(REPOSITORY, WHEN, None)


def test_argon2_is_as_the_format_says() -> None:
    """By the reference implementation's tool: `argon2 SALT -id -t 3 -k 65536 -p 4 -l 32`."""
    assert (sealed.ARGON2_MEMORY_KIB, sealed.ARGON2_PASSES, sealed.ARGON2_LANES) == (64 * 1024, 3, 4)
    key = sealed.passphrase_key("correct horse battery", b"0123456789abcdef")
    assert key.hex() == "5220483d4ba1637c5d5df43b377a7f6aed39a6159693d0029a3e4f76d50669ab"


def test_a_forged_ring_opens_to_nothing() -> None:
    opened, ops, _ = opened_ring()
    data = encode(opened.ring)
    other = encode(create_ring(REPOSITORY, WHEN, PASSPHRASE, [("ops", ops.recipient)]).ring)
    foreign = decode(other, REPOSITORY)
    seal = base64.b64encode

    def epoch_of_his(fields: dict[str, Any]) -> None:
        fields["epochs"][0]["public"] = seal(foreign.epochs[0].public).decode()

    def epoch_more(fields: dict[str, Any]) -> None:
        fields["epochs"].append({**fields["epochs"][0], "number": 2})

    def root_of_another(fields: dict[str, Any]) -> None:
        fields["root"] = seal(foreign.root).decode()

    def wrapped_of_another(fields: dict[str, Any]) -> None:
        fields["slots"][1]["wrapped"] = seal(foreign.slots[1].wrapped).decode()

    def kit_proven(fields: dict[str, Any]) -> None:
        fields["slots"][2]["proven"] = "2025-01-04T14:30:22Z"

    def recipient_of_his(fields: dict[str, Any]) -> None:
        fields["slots"].append({**fields["slots"][1], "id": "00000000", "name": "his", "recipient": his.recipient})

    def older(fields: dict[str, Any]) -> None:
        fields["generation"] += 1

    his = new_identity()
    for change in (epoch_of_his, epoch_more, root_of_another, wrapped_of_another, kit_proven, recipient_of_his, older):
        ring = forged(data, change)
        with pytest.raises(DamagedError, match="changed by somebody without"):
            unlock_by_identity(ring, ops)
        with pytest.raises(DamagedError, match="changed by somebody without"):
            unlock_by_passphrase(ring, PASSPHRASE)
    with pytest.raises(DamagedError):
        unlock_by_identity(forged(data, recipient_of_his), his)


def test_a_passphrase_is_changed_under_a_second_and_no_key_with_it() -> None:
    opened, ops, _ = opened_ring()
    started = time.process_time()  # of all threads
    changed = opened.change_passphrase("passphrase", Secret("another good one"), WHEN)
    encode(changed.ring)
    assert time.process_time() - started < 1
    assert changed.ring.generation == opened.ring.generation + 1
    assert unlock_by_passphrase(stored(changed), Secret("another good one")).private == opened.private
    assert unlock_by_identity(stored(changed), ops).access == opened.access
    with pytest.raises(KeyRefused):
        unlock_by_passphrase(stored(changed), PASSPHRASE)
    with pytest.raises(UsageError, match="has no passphrase"):
        opened.change_passphrase("ops", PASSPHRASE, WHEN)


def test_a_second_passphrase_and_recipient_open_it_too() -> None:
    opened, *_ = opened_ring()
    friend = new_identity()
    changed = opened.add_passphrase(Secret("of somebody else"), "friend", WHEN)
    changed = changed.add_recipient(f" {friend.recipient}\n", "friend's key", WHEN)
    assert unlock_by_passphrase(stored(changed), Secret("of somebody else")).root == opened.root
    assert unlock_by_passphrase(stored(changed), PASSPHRASE).root == opened.root
    assert unlock_by_identity(stored(changed), friend).root == opened.root


def test_slots_that_would_confuse_are_refused() -> None:
    opened, ops, _ = opened_ring()
    with pytest.raises(UsageError, match="has a slot already"):
        opened.add_recipient(ops.recipient, "again", WHEN)
    with pytest.raises(UsageError, match="There is a slot ops"):
        opened.add_recipient(new_identity().recipient, "ops", WHEN)
    for name in ("", " ", "two\nlines", "x" * 65):
        with pytest.raises(UsageError, match="printable"):
            opened.add_recipient(new_identity().recipient, name, WHEN)
    with pytest.raises(UsageError, match="no age recipient"):
        opened.add_recipient("age1nonsense", "nobody", WHEN)
    secret = ops.text.reveal()
    with pytest.raises(UsageError, match="identity, which is secret") as caught:
        opened.add_recipient(secret, "oops", WHEN)
    assert secret not in caught.value.message + caught.value.hint
    full = opened
    for number in range(MOST_SLOTS - 3):
        full = full.add_recipient(new_identity().recipient, f"number {number}", WHEN)
    assert stored(full) == full.ring
    with pytest.raises(UsageError, match="at most 64"):
        full.add_recipient(new_identity().recipient, "one more", WHEN)


def test_what_was_removed_opens_no_more() -> None:
    opened, ops, _ = opened_ring()
    changed = opened.remove("ops")
    with pytest.raises(KeyRefused):
        unlock_by_identity(stored(changed), ops)
    assert [slot.name for slot in changed.ring.slots] == ["passphrase", "recovery kit"]
    with pytest.raises(NotFoundError):
        changed.remove("ops")


def test_the_last_that_opens_stays() -> None:
    opened, _, kit = opened_ring()
    alone = opened.remove("ops")
    with pytest.raises(UsageError, match="Only a recovery kit that was never proven") as caught:
        alone.remove("passphrase")
    assert caught.value.hint == "Prove the kit first: resurgam keys kit --prove."
    kit_only = alone.kit_proven("recovery kit", WHEN).remove("passphrase")
    assert unlock_by_identity(stored(kit_only), kit).root == opened.root
    with pytest.raises(UsageError, match="is the last"):
        kit_only.remove("recovery kit")


def test_after_a_rotation_only_old_things_open_to_who_was_removed() -> None:
    """Sentence 27: the removed recipient has kept the old ring, and with it the access key and the root."""
    opened, ops, kit = opened_ring()
    kept = unlock_by_identity(stored(opened), ops)
    before = new_data_key(opened.secrets)
    rotated, dropped = opened.remove("ops").rotate(WHEN)
    after = new_data_key(rotated.secrets)
    assert dropped == ()
    assert (before.epoch, after.epoch) == (1, 2)

    assert unwrap_data_key(kept.secrets, 1, before.wrapped) == before.key
    with pytest.raises(KeyRefused, match="no key of epoch 2"):
        unwrap_data_key(kept.secrets, 2, after.wrapped)
    with pytest.raises(DamagedError):
        unwrap_data_key(kept.secrets, 1, after.wrapped)
    ring = stored(rotated)
    sealed_values = [ring.root, *(epoch.private for epoch in ring.epochs)]
    for name, value in zip(("root", "private 1", "private 2"), sealed_values, strict=True):
        assert sealed.unseal(kept.access, REPOSITORY, name, value) is None
        assert sealed.unseal(rotated.access, REPOSITORY, name, value) is not None
    with pytest.raises(KeyRefused):
        unlock_by_identity(ring, ops)

    for again in (unlock_by_passphrase(ring, PASSPHRASE), unlock_by_identity(ring, kit)):
        assert unwrap_data_key(again.secrets, 1, before.wrapped) == before.key
        assert unwrap_data_key(again.secrets, 2, after.wrapped) == after.key
        assert again.secrets.names == opened.secrets.names


def test_a_rotation_names_the_passphrases_that_drop_out() -> None:
    opened, ops, _ = opened_ring()
    two = opened.add_passphrase(Secret("of somebody else"), "friend", WHEN).kit_proven("recovery kit", WHEN)
    rotated, dropped = unlock_by_passphrase(stored(two), PASSPHRASE).rotate(WHEN)
    assert [slot.name for slot in dropped] == ["friend"]
    with pytest.raises(KeyRefused):
        unlock_by_passphrase(stored(rotated), Secret("of somebody else"))
    assert unlock_by_passphrase(stored(rotated), PASSPHRASE).secrets == rotated.secrets
    by_key, dropped = unlock_by_identity(stored(two), ops).rotate(WHEN)
    assert [slot.name for slot in dropped] == ["passphrase", "friend"]
    kept = {slot.name: slot.proven for slot in by_key.ring.slots}
    assert kept == {"ops": None, "recovery kit": WHEN}


def test_a_rotation_twice_in_a_row_keeps_every_epoch() -> None:
    opened, *_ = opened_ring()
    rotated = opened.rotate(WHEN)[0].rotate(WHEN)[0]
    again = unlock_by_passphrase(stored(rotated), PASSPHRASE)
    assert sorted(again.private) == [1, 2, 3]
    assert again.secrets.epoch.number == 3


def test_a_rotation_that_leaves_nobody_is_refused() -> None:
    opened, _, kit = opened_ring()
    by_unproven_kit = unlock_by_identity(stored(opened.remove("ops")), kit)
    with pytest.raises(UsageError, match="nobody would be known"):
        by_unproven_kit.rotate(WHEN)


def test_only_a_kit_is_proven() -> None:
    opened, *_ = opened_ring()
    with pytest.raises(UsageError, match="no recovery kit's"):
        opened.kit_proven("ops", WHEN)

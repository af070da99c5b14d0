"""The operations on a repository's keys, by their effect on who can open it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from resurgam.clock import SystemClock
from resurgam.errors import BusyError, KeyRefused, RepositoryError, StorageError, UsageError
from resurgam.keys.kit import kit_lines, parse_kit
from resurgam.keys.open_ring import create_ring
from resurgam.keys.ring import encode
from resurgam.keys.secrets import Secrets, new_data_key, unwrap_data_key
from resurgam.keys.slots import new_identity
from resurgam.keys.unlock import Unlocking, unlock
from resurgam.operations import repository_keys
from resurgam.operations.repository_keys import KeyAccess
from resurgam.policy.kit import kit_standing
from resurgam.repository.ring_store import RingStore
from resurgam.settings.secret import Secret
from resurgam.stores.object_memory import MemoryStore
from tests.keys.rings import PASSPHRASE, REPOSITORY, WHEN, forged

NOW = datetime(2025, 6, 7, 8, 9, 10, tzinfo=UTC)


class StillClock(SystemClock):
    def now(self) -> datetime:
        return NOW


@dataclass
class Scene:
    """A repository's keys, and who tries to open it."""

    store: MemoryStore = field(default_factory=MemoryStore)
    tried: list[Secrets] = field(default_factory=list)

    def access(self, try_out: Callable[[Secrets], object] | None = None) -> KeyAccess:
        unlocking = Unlocking(passphrase=PASSPHRASE)
        rings = RingStore(self.store, REPOSITORY)
        return KeyAccess(rings, unlocking, StillClock(), "radiology", "/srv/backups", try_out or self.tried.append)

    def secrets(self, unlocking: Unlocking) -> Secrets:
        return unlock(RingStore(self.store, REPOSITORY), unlocking).secrets


@pytest.fixture
def scene() -> Scene:
    scene = Scene()
    RingStore(scene.store, REPOSITORY).create(create_ring(REPOSITORY, WHEN, PASSPHRASE).ring)
    return scene


def test_who_is_added_opens_it_and_who_is_removed_no_more(scene: Scene, tmp_path: Path) -> None:
    friend = new_identity()
    (tmp_path / "friend").write_text(friend.text.reveal())
    added = repository_keys.add_recipient(scene.access(), friend.recipient, "friend")
    assert added.slot is not None
    assert added.slot.created == NOW
    repository_keys.add_passphrase(scene.access(), Secret("a second passphrase"), "second")
    for way in (Unlocking(identity_file=tmp_path / "friend"), Unlocking(passphrase=Secret("a second passphrase"))):
        assert scene.secrets(way) == scene.secrets(Unlocking(passphrase=PASSPHRASE))
    removed = repository_keys.remove_slot(scene.access(), "friend")
    assert [slot.name for slot in removed.ended] == ["friend"]
    assert [slot.name for slot in removed.ring.slots] == ["passphrase", "second"]
    with pytest.raises(KeyRefused):
        scene.secrets(Unlocking(identity_file=tmp_path / "friend"))
    ring, warnings = repository_keys.list_keys(scene.access())
    assert (ring, warnings) == (removed.ring, ())


def test_the_last_slot_stays_and_so_does_the_ring(scene: Scene) -> None:
    before = dict(scene.store.objects)
    with pytest.raises(UsageError, match="is the last"):
        repository_keys.remove_slot(scene.access(), "passphrase")
    assert scene.store.objects == before


def test_the_passphrase_in_use_is_changed_in_under_a_second(scene: Scene) -> None:
    started = time.process_time()
    repository_keys.change_passphrase(scene.access(), Secret("a better passphrase"))
    took = time.process_time() - started  # of all threads; a clock on the wall would measure the machine's other work
    scene.secrets(Unlocking(passphrase=Secret("a better passphrase")))
    with pytest.raises(KeyRefused):
        scene.secrets(Unlocking(passphrase=PASSPHRASE))
    assert took < 1


def test_a_rotation_ends_other_passphrases_and_reads_what_was(scene: Scene) -> None:
    old = scene.secrets(Unlocking(passphrase=PASSPHRASE))
    before = new_data_key(old)
    repository_keys.add_passphrase(scene.access(), Secret("a second passphrase"), "second")
    rotated = repository_keys.rotate(scene.access())
    assert [slot.name for slot in rotated.ended] == ["second"]
    new = scene.secrets(Unlocking(passphrase=PASSPHRASE))
    assert new.epoch.number == 2
    assert unwrap_data_key(new, 1, before.wrapped) == before.key
    after = new_data_key(new)
    with pytest.raises(KeyRefused):
        unwrap_data_key(old, 2, after.wrapped)
    with pytest.raises(KeyRefused):
        scene.secrets(Unlocking(passphrase=Secret("a second passphrase")))


@pytest.mark.parametrize("name", ["kit.txt", "kit.html", "KIT.HTML"])
def test_a_kit_is_made_and_proven_by_its_file(scene: Scene, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    made = repository_keys.make_kit(scene.access(), out)
    assert out.stat().st_mode & 0o777 == 0o600
    assert kit_standing(made.ring).word == "unproven"
    assert scene.secrets(Unlocking(kit_file=out)) == scene.secrets(Unlocking(passphrase=PASSPHRASE))
    # With nothing else: the access has no key at all.
    keyless = replace(scene.access(), unlocking=Unlocking())
    proven = repository_keys.prove_kit(keyless, out.read_text())
    assert kit_standing(proven.ring).when == NOW
    assert made.slot is not None
    assert proven.slot == replace(made.slot, proven=NOW)
    assert scene.tried == [scene.secrets(Unlocking(passphrase=PASSPHRASE))]
    assert "AGE-SECRET" not in json.dumps(proven.to_json())


def test_a_kit_typed_by_hand_is_proven_and_a_mistyped_one_is_not(scene: Scene, tmp_path: Path) -> None:
    repository_keys.make_kit(scene.access(), tmp_path / "kit.txt")
    lines = list(kit_lines(parse_kit((tmp_path / "kit.txt").read_text())))
    third = lines[2]
    wrong = [*lines[:2], third[:5] + "QP"[third[5] == "Q"] + third[6:], lines[3]]
    with pytest.raises(KeyRefused, match="Line 3"):
        repository_keys.prove_kit(scene.access(), "\n".join(wrong))
    assert kit_standing(repository_keys.list_keys(scene.access())[0]).word == "unproven"
    assert scene.tried == []
    assert kit_standing(repository_keys.prove_kit(scene.access(), "\n".join(lines).lower()).ring).word == "proven"


def test_a_kit_is_proven_where_one_copy_of_the_ring_was_forged(scene: Scene, tmp_path: Path) -> None:
    repository_keys.make_kit(scene.access(), tmp_path / "kit.txt")
    key = "keys/00000002.1"
    ring = forged(scene.store.objects[key][0], lambda fields: fields["slots"][0].update(name="another"))
    scene.store.objects[key] = (encode(ring), 0.0)
    assert "differ" in repository_keys.list_keys(scene.access())[1][0]
    proven = repository_keys.prove_kit(scene.access(), (tmp_path / "kit.txt").read_text())
    assert [slot.name for slot in proven.ring.slots] == ["passphrase", "recovery kit"]
    assert repository_keys.list_keys(scene.access()) == (proven.ring, ())


def test_a_kit_of_another_repository_or_a_removed_one_is_not_proven(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="opens no slot"):
        repository_keys.prove_kit(scene.access(), "\n".join(kit_lines(new_identity())))
    repository_keys.make_kit(scene.access(), tmp_path / "kit.txt")
    repository_keys.remove_slot(scene.access(), "recovery kit")
    with pytest.raises(KeyRefused, match="opens no slot"):
        repository_keys.prove_kit(scene.access(), (tmp_path / "kit.txt").read_text())


def test_a_kit_that_opens_the_ring_but_not_the_repository_is_not_proven(scene: Scene, tmp_path: Path) -> None:
    repository_keys.make_kit(scene.access(), tmp_path / "kit.txt")

    def fails(secrets: Secrets) -> None:
        raise RepositoryError("Nothing opens.")

    with pytest.raises(RepositoryError, match="Nothing opens"):
        repository_keys.prove_kit(scene.access(fails), (tmp_path / "kit.txt").read_text())
    assert kit_standing(repository_keys.list_keys(scene.access())[0]).word == "unproven"


def test_a_second_kit_has_a_name_of_its_own(scene: Scene, tmp_path: Path) -> None:
    for number in range(3):
        repository_keys.make_kit(scene.access(), tmp_path / f"{number}.txt")
    names = [slot.name for slot in repository_keys.list_keys(scene.access())[0].slots]
    assert names == ["passphrase", "recovery kit", "recovery kit 2", "recovery kit 3"]


def test_no_kit_without_its_file_and_no_file_without_its_kit(scene: Scene, tmp_path: Path) -> None:
    before = dict(scene.store.objects)
    (tmp_path / "there.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        repository_keys.make_kit(scene.access(), tmp_path / "there.txt")
    with pytest.raises(StorageError, match="no kit was made"):
        repository_keys.make_kit(scene.access(), tmp_path / "gone" / "kit.txt")
    with pytest.raises(UsageError, match=r"\.txt or a \.html"):
        repository_keys.make_kit(scene.access(), tmp_path / "kit.pdf")
    assert scene.store.objects == before
    assert (tmp_path / "there.txt").read_text() == "mine"
    access = scene.access()
    lost = replace(access, rings=_Losing(scene.store, REPOSITORY))
    with pytest.raises(BusyError):
        repository_keys.make_kit(lost, tmp_path / "kit.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["there.txt"]


class _Losing(RingStore):
    """Somebody else changes the keys just before."""

    def replace(self, ring: object) -> None:
        raise BusyError("Somebody else changed the keys at the same time.")


def test_a_kit_whose_slot_may_count_keeps_its_file(scene: Scene, tmp_path: Path) -> None:
    """The store fails after the first copy: the slot is in force, so its only key must not be deleted."""

    class FailsAtSecond(MemoryStore):
        def put(self, key: str, data: bytes | bytearray | memoryview) -> None:
            if key == "keys/00000002.2":
                raise StorageError("The network is gone.")
            super().put(key, data)

    failing = FailsAtSecond()
    failing.objects = scene.store.objects
    access = replace(scene.access(), rings=RingStore(failing, REPOSITORY))
    with pytest.raises(StorageError):
        repository_keys.make_kit(access, tmp_path / "kit.txt")
    assert kit_standing(repository_keys.list_keys(scene.access())[0]).word == "unproven"
    assert repository_keys.prove_kit(scene.access(), (tmp_path / "kit.txt").read_text()).ring.slots[1].proven == NOW


def test_a_writer_key_adds_and_reads_nothing(scene: Scene, tmp_path: Path) -> None:
    ring = repository_keys.make_writer_key(scene.access(), tmp_path / "writer.json")
    assert ring.generation == 1
    host = scene.secrets(Unlocking(writer_key_file=tmp_path / "writer.json"))
    assert not host.can_read
    repository_keys.rotate(scene.access())
    assert scene.secrets(Unlocking(writer_key_file=tmp_path / "writer.json")).epoch.number == 2
    with pytest.raises(KeyRefused, match="write-only key"):
        access = replace(scene.access(), unlocking=Unlocking(writer_key_file=tmp_path / "writer.json"))
        repository_keys.add_passphrase(access, Secret("of an intruder"), "intruder")


def test_a_rotation_asks_the_kit_for_nothing(scene: Scene, tmp_path: Path) -> None:
    repository_keys.make_kit(scene.access(), tmp_path / "kit.txt")
    repository_keys.prove_kit(scene.access(), (tmp_path / "kit.txt").read_text())
    repository_keys.rotate(scene.access())
    assert scene.secrets(Unlocking(kit_file=tmp_path / "kit.txt")).epoch.number == 2
    standing = kit_standing(repository_keys.list_keys(scene.access())[0])
    assert standing.when is not None
    assert NOW - standing.when < timedelta(seconds=1)

"""Encrypted archives through everything that is done with backups (docs/archive-format.md, sentences 32 to 41)."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from resurgam import moving
from resurgam.archive import age_header
from resurgam.errors import DamagedError, FeatureMissing, KeyRefused, ResurgamError, VerifyFailed
from resurgam.keys.age import identity, identity_text
from resurgam.operations.doctor import Status
from resurgam.operations.restore import Parts
from resurgam.readiness import doctor
from tests.archive.test_encrypted import typed_into_age
from tests.operations.scene import Scene, lost

KEY = "Wer rastet, der rostet 7"
IDENTITY = identity(bytes(range(32)))
KINDS = ("passphrase", "recipients", "gpg")
_FORM = {"passphrase": "age", "recipients": "age", "gpg": "gpg"}


@pytest.fixture(autouse=True)
def quick_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(age_header, "WORK_FACTOR", 8)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "identity.txt"
    path.write_text(f"# a comment\n{identity_text(IDENTITY)}\n")
    path.chmod(0o600)
    return path


def writing(kind: str) -> dict[str, str]:
    """The settings of a machine that writes such archives."""
    return {
        "passphrase": {"BACKUP_ENCRYPTION_KEY": KEY},
        "recipients": {"BACKUP_ENCRYPTION_RECIPIENTS": str(IDENTITY.recipient)},
        "gpg": {"BACKUP_ENCRYPTION_KEY": KEY, "BACKUP_ENCRYPTION": "gpg"},
    }[kind]


def reading(kind: str, key_file: Path) -> dict[str, str]:
    """The settings of one that reads them too."""
    return {**writing(kind), **({"BACKUP_ENCRYPTION_IDENTITY_FILE": str(key_file)} if kind == "recipients" else {})}


def taken(scene: Scene, kind: str) -> Path:
    with scene.service(**writing(kind)) as service:
        return Path(service.backup().archive_path)


def forget_catalog(scene: Scene) -> None:
    for path in scene.backups.glob("catalog.sqlite*"):
        path.unlink()


def conditions(scene: Scene, **more: str) -> list[tuple[str, str | None]]:
    with scene.service(**more) as service:
        return [(one["condition"], one["encryption"]) for one in service.list_backups()]


def test_a_backup_is_encrypted_and_known_without_being_opened(scene: Scene, kind: str) -> None:
    with scene.service(**writing(kind)) as service:
        result = service.backup()
    name = f"{result.name}.tar.gz.{_FORM[kind]}"
    assert result.archive_path == str(scene.backups / name) and result.metadata["backup_name"] == result.name
    assert [path.name for path in scene.backups.glob("*.tar.gz*")] == [name] and not scene.leftovers()
    with scene.service() as service:
        [listed] = service.list_backups()
        shown = service.show(result.name)
    assert (listed["condition"], listed["encryption"], listed["archive_path"]) == (
        "good",
        _FORM[kind],
        result.archive_path,
    )
    assert shown["metadata"]["total_files"] > 40 and listed["sequence"] == 1


def test_restored_verified_and_drilled(scene: Scene, kind: str, key_file: Path) -> None:
    before = scene.seen()
    path = taken(scene, kind)
    name = path.name.partition(".")[0]
    scene.wreck()
    with scene.service(**reading(kind, key_file)) as service:
        assert service.verify(name).to_json()["success"]
        assert service.verify_all().sound == (name,)
        assert service.drill(name).to_json()["success"]
        service.restore(name, Parts())
    assert not lost(before, scene.seen())
    scene.drop_previous()


def test_an_export_is_plain_and_an_import_opens_what_is_encrypted(scene: Scene, kind: str, key_file: Path) -> None:
    path = taken(scene, kind)
    name = path.name.partition(".")[0]
    with scene.service(**reading(kind, key_file)) as service:
        exported = moving.export_backup(service, name, scene.root).path
        aside = path.rename(scene.root / path.name)
        assert [one["backup_name"] for one in service.list_backups()] == []
        moving.import_archive(service, aside)
        assert service.verify(name).to_json()["success"]
    with tarfile.open(exported) as plain:
        assert f"{name}/backup_metadata.json" in plain.getnames()
    with scene.service() as service, pytest.raises(KeyRefused):
        moving.export_backup(service, name, scene.root / "other.tar.gz")
    assert not (scene.root / "other.tar.gz").exists() and not scene.leftovers()


def test_after_a_lost_catalog_it_is_sealed_until_something_opens_it(scene: Scene, kind: str, key_file: Path) -> None:
    path = taken(scene, kind)
    name = path.name.partition(".")[0]
    forget_catalog(scene)
    assert conditions(scene) == [("sealed", _FORM[kind])]
    with scene.service() as service:
        assert service.show(name)["metadata"] is None
        assert service.list_backups()[0]["timestamp"] == name[-15:]
    # An identity opens at once; nothing else does in a list.
    assert conditions(scene, **reading(kind, key_file)) == [("good" if kind == "recipients" else "sealed", _FORM[kind])]
    with scene.service(**reading(kind, key_file)) as service:
        service.verify(name)
    assert conditions(scene) == [("good", _FORM[kind])]


def test_show_opens_what_a_passphrase_sealed(scene: Scene) -> None:
    name = taken(scene, "passphrase").name.partition(".")[0]
    forget_catalog(scene)
    with scene.service(**writing("passphrase")) as service:
        assert service.show(name)["metadata"]["backup_name"] == name
    assert conditions(scene) == [("good", "age")]


def test_without_the_right_key_nothing_is_touched(scene: Scene, kind: str, tmp_path: Path) -> None:
    before = scene.seen()
    name = taken(scene, kind).name.partition(".")[0]
    other = tmp_path / "other.txt"
    other.write_text(identity_text(identity(bytes(range(1, 33)))))
    for keys in ({}, {"BACKUP_ENCRYPTION_KEY": "falsch", "BACKUP_ENCRYPTION_IDENTITY_FILE": str(other)}):
        with scene.service(**keys) as service:
            for ask in (
                lambda: service.verify(name),
                lambda: service.restore(name, Parts()),
                lambda: service.drill(name),
            ):
                with pytest.raises(ResurgamError) as refused:
                    ask()
                assert "encrypted" in refused.value.message and "\n" not in refused.value.message
                assert "falsch" not in refused.value.message + refused.value.hint
            with pytest.raises(VerifyFailed, match=r"1 of 1 backups could not be opened.*encrypted") as unknown:
                service.verify_all()
            assert "new backup" not in unknown.value.hint
    assert scene.seen() == before and not scene.leftovers()
    assert conditions(scene) == [("good", _FORM[kind])]


def test_a_damaged_one_is_damaged_and_not_restored(scene: Scene, kind: str, key_file: Path) -> None:
    path = taken(scene, kind)
    name = path.name.partition(".")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with scene.service(**reading(kind, key_file)) as service:
        with pytest.raises(DamagedError):
            service.verify(name)
        with pytest.raises(ResurgamError):
            service.restore(name, Parts())
    path.write_bytes(data[: len(data) // 2])
    with scene.service(**reading(kind, key_file)) as service, pytest.raises(DamagedError):
        service.verify(name)


def test_plain_and_encrypted_archives_stand_side_by_side(scene: Scene, key_file: Path) -> None:
    every = {"BACKUP_ENCRYPTION_KEY": KEY, "BACKUP_ENCRYPTION_IDENTITY_FILE": str(key_file)}
    with scene.service() as service:
        plain = service.backup().name
    names = [taken(scene, kind).name.partition(".")[0] for kind in KINDS]
    with scene.service(**every) as service:
        assert [one["encryption"] for one in service.list_backups()] == ["gpg", "age", "age", None]
        assert service.verify_all().sound == (*reversed(names), plain)
        service.delete(names[0])
        assert [one["backup_name"] for one in service.list_backups()] == [names[2], names[1], plain]
    with scene.service(MAX_BACKUPS="1") as service:
        service.prune()
        assert [one["backup_name"] for one in service.list_backups()] == [names[2]]
    assert [path.name for path in scene.backups.glob("*.tar.gz*")] == [f"{names[2]}.tar.gz.gpg"]


def test_one_decrypted_beside_it_counts_once_and_goes_with_it(scene: Scene) -> None:
    path = taken(scene, "passphrase")
    name = path.name.partition(".")[0]
    typed_into_age(path.with_suffix(""), path, KEY)
    with scene.service() as service:
        assert [(one["condition"], one["encryption"]) for one in service.list_backups()] == [("good", None)]
        assert service.verify(name).to_json()["success"]
        service.delete(name)
    assert not list(scene.backups.glob("*.tar.gz*"))


def test_remote_copies_are_encrypted_and_restored_from(scene: Scene, kind: str, key_file: Path) -> None:
    remote = scene.root / "remote"
    more = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(remote)}
    with scene.service(**more) as service:
        service.remote.set_up()  # type: ignore[union-attr]
    with scene.service(**writing(kind), **more) as service:
        result = service.backup()
        assert (result.copied, result.failures) == ((result.name,), ())
        [listed] = service.list_backups()
        assert listed["locations"] == ["local", "remote"]
        assert {copy["condition"] for copy in service.show(result.name)["copies"]} == {"good"}
    local = Path(result.archive_path)
    assert (remote / local.name).read_bytes() == local.read_bytes()
    local.unlink()
    before = scene.seen()
    scene.wreck()
    with scene.service(**reading(kind, key_file), **more) as service:
        assert service.list_backups()[0]["archive_path"] == str(remote / local.name)
        service.restore(result.name, Parts())
    assert not lost(before, scene.seen())
    scene.drop_previous()


def test_a_cut_remote_copy_of_a_sealed_one_is_copied_again(scene: Scene) -> None:
    remote = scene.root / "remote"
    more = {"REMOTE_BACKUP_ENABLED": "true", "REMOTE_BACKUP_PATH": str(remote)}
    with scene.service(**more) as service:
        service.remote.set_up()  # type: ignore[union-attr]
    with scene.service(**writing("gpg"), **more) as service:
        first = Path(service.backup().archive_path)
    whole = first.read_bytes()
    (remote / first.name).write_bytes(whole[:-1000])
    forget_catalog(scene)
    with scene.service(**writing("gpg"), **more) as service:
        assert service.backup().failures == ()
    assert (remote / first.name).read_bytes() == whole


def test_sentence_40_a_new_number_is_above_those_that_are_sealed(scene: Scene, key_file: Path) -> None:
    first = taken(scene, "recipients").name.partition(".")[0]
    forget_catalog(scene)
    second = taken(scene, "recipients").name.partition(".")[0]
    with scene.service(**reading("recipients", key_file)) as service:
        listed = service.list_backups()
    assert [one["backup_name"] for one in listed] == [second, first]
    assert listed[0]["sequence"] > 1_700_000_000 and listed[1]["sequence"] == 1


def test_a_sealed_one_between_others_is_not_taken_for_the_oldest(scene: Scene) -> None:
    """Somebody changed its mode, so that the catalog has to ask again, and nobody answers."""
    paths = [taken(scene, "gpg") for _ in range(4)]
    names = [path.name.partition(".")[0] for path in paths]
    paths[2].chmod(0o640)
    with scene.service(MAX_BACKUPS="2") as service:
        assert [one["condition"] for one in service.list_backups()] == ["good", "sealed", "good", "good"]
        assert [one["backup_name"] for one in service.list_backups()] == names[::-1]
        service.prune()
        assert [one["backup_name"] for one in service.list_backups()] == [names[3], names[2]]


def test_the_key_may_come_from_a_command(scene: Scene, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    command = tmp_path / "ask"
    command.write_text(f"#!/bin/sh\necho . >> {asked}\necho '{KEY}'\necho more\n")
    command.chmod(0o755)
    with scene.service(BACKUP_ENCRYPTION_KEY_COMMAND=str(command)) as service:
        service.list_backups()
        assert not asked.exists()
        name = service.backup().name
        service.verify(name)
    assert asked.read_text() == ".\n"
    with scene.service(BACKUP_ENCRYPTION_KEY=KEY) as service:
        service.verify(name)
    command.write_text("#!/bin/sh\nexit 3\n")
    with scene.service(BACKUP_ENCRYPTION_KEY_COMMAND=str(command)) as service, pytest.raises(KeyRefused):
        service.backup()
    assert len(list(scene.backups.glob("*.tar.gz*"))) == 1


def test_wrong_recipients_fail_before_anything_is_captured(scene: Scene) -> None:
    with scene.service(BACKUP_ENCRYPTION_RECIPIENTS=f"{IDENTITY.recipient}x") as service:
        with pytest.raises(KeyRefused, match="mistyped"):
            service.backup()
        assert service.list_backups() == []
    assert not scene.leftovers()


def test_the_manual_s_gpg_call_and_age_are_read_by_stock_tools(scene: Scene, tmp_path: Path) -> None:
    """A backup of a real database, opened without us."""
    path = taken(scene, "passphrase")
    out = tmp_path / "out"
    out.mkdir()
    typed_into_age(tmp_path / "plain.tar.gz", path, KEY)
    subprocess.run(["tar", "xzf", tmp_path / "plain.tar.gz", "-C", out], check=True)
    top = out / path.name.partition(".")[0]
    metadata = json.loads((top / "backup_metadata.json").read_text())
    assert (top / metadata["database"]["file"]).stat().st_size == metadata["database"]["size_bytes"]
    shutil.rmtree(out)


def test_health_and_doctor_say_whether_an_identity_was_shown(scene: Scene, key_file: Path, tmp_path: Path) -> None:
    def told(**more: str) -> tuple[bool, list[Status]]:
        with scene.service(**more) as service:
            reasons = {one.code for one in service.health().reasons}
            checks = [one.status for one in doctor(service) if one.name == "encryption"]
        return "key_unproven" in reasons, checks

    writes, other = writing("recipients"), tmp_path / "other.txt"
    name = taken(scene, "recipients").name.partition(".")[0]
    assert told(**writes) == (True, ["warning"])
    other.write_text(identity_text(identity(bytes(range(1, 33)))))
    assert told(**writes, BACKUP_ENCRYPTION_IDENTITY_FILE=str(other)) == (True, ["warning"])
    assert told(**reading("recipients", key_file)) == (False, ["ok"])
    assert told(**writes) == (True, ["warning"])
    with scene.service(**reading("recipients", key_file)) as service:
        service.drill(name)
    assert told(**writes) == (False, ["ok"])
    assert told() == (False, [])
    assert told(**writing("passphrase")) == (False, ["ok"])
    assert told(**writing("gpg"), PATH=str(tmp_path))[1] == ["problem"]


def test_features_that_are_missing_still_fail(scene: Scene) -> None:
    with scene.service(S3_BACKUP_BUCKET="x", BACKUP_ENCRYPTION_KEY=KEY) as service, pytest.raises(FeatureMissing):
        service.backup()

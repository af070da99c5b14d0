"""BACKUP_REPOSITORY: the same calls with the same results, from a repository in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from resurgam import moving, readiness
from resurgam.archive.opening import open_archive
from resurgam.errors import (
    CollectionRefused,
    KeyRefused,
    RepositoryError,
    UsageError,
)
from resurgam.operations.repository_keys import prove_kit
from resurgam.operations.restore import Parts, Wishes
from resurgam.repository.run import reserving
from tests.operations.scene import Scene, lost

ALL = Parts(database=True, config=True, files=True)
KEY = "correct horse battery staple"


@pytest.fixture
def scene(scene: Scene) -> Scene:
    return in_repository(scene)


def in_repository(scene: Scene) -> Scene:
    """The same, with its backups in a repository that is there."""
    scene.more |= {"BACKUP_REPOSITORY": str(scene.root / "repository"), "BACKUP_ENCRYPTION_KEY": KEY}
    with scene.service() as service:
        readiness.make_repository(service)
    return scene


def objects(scene: Scene, folder: str) -> list[Path]:
    return sorted(path for path in (scene.root / "repository" / folder).rglob("*") if path.is_file())


def test_a_backup_is_taken_listed_verified_and_restored(scene: Scene) -> None:
    before = scene.seen()
    with scene.service() as service:
        taken = service.backup()
        assert taken.archive_path.startswith(f"{scene.root}/repository/manifests/")
        assert Path(taken.archive_path).is_file()
        assert taken.failures == () and taken.metadata["sequence"] == 1
    assert scene.archives() == []
    with scene.service() as service:
        (listed,) = service.list_backups()
        assert listed["archive_path"] == taken.archive_path and listed["locations"] == ["repository"]
        assert listed["size_bytes"] == taken.size
        assert service.show(taken.name)["metadata"] == taken.metadata
        checked = service.verify(taken.name)
        assert checked.total_files == taken.metadata["total_files"] and checked.path == taken.archive_path
    scene.wreck()
    with scene.service() as service:
        restored = service.restore(taken.name, ALL)
        assert restored.plan.name == taken.name
    assert lost(before, scene.seen()) == []


def test_what_did_not_change_is_stored_once(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
        before = sum(path.stat().st_size for path in objects(scene, "packs"))
        second = service.backup()
        added = sum(path.stat().st_size for path in objects(scene, "packs")) - before
        assert added < before / 4 and second.metadata["sequence"] == 2
        assert next(one["backup_name"] for one in service.list_backups()) == second.name
        assert service.verify_all().sound[0] == second.name and len(service.verify_all(full=False).sound) == 2


def test_an_export_is_the_archive_that_tar_opens_and_an_import_gives_the_same_backup(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        first = moving.export_backup(service, name, scene.root)
        second = moving.export_backup(service, name, scene.root / "again.tar.gz")
        assert first.path.read_bytes() == second.path.read_bytes() and first.digest == second.digest
        with pytest.raises(UsageError, match="nothing is overwritten"):
            moving.export_backup(service, name, scene.root)
    unpacked = scene.root / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "xzf", first.path, "-C", unpacked], check=True)
    templates = scene.app / "backend/templates"
    for path in templates.rglob("*"):
        if path.is_file():
            stored = unpacked / name / "files/templates" / path.relative_to(templates)
            assert stored.read_bytes() == path.read_bytes()
    with open_archive(first.path) as archive:
        exported = [(entry, b"".join(blocks)) for entry, blocks in archive.walk()]
    with scene.service() as service:
        packs = objects(scene, "packs")
        assert not moving.import_archive(service, first.path).new and objects(scene, "packs") == packs
        service.delete(name)
        assert service.list_backups() == []
        taken_in = moving.import_archive(service, first.path)
        assert [one["backup_name"] for one in service.list_backups()] == [name] and taken_in.name == name
        service.verify(name)
        with service.inventory.open(service.inventory.find(name)) as backup:
            assert [(entry, b"".join(blocks)) for entry, blocks in backup.walk()] == exported
        assert len(objects(scene, "packs")) >= len(packs)


def test_archives_and_repositories_take_each_others_backups(scene: Scene) -> None:
    with scene.service(BACKUP_REPOSITORY="", BACKUP_ENCRYPTION_KEY="") as service:
        name = service.backup().name
    (archive,) = scene.backups.glob("*.tar.gz")
    with scene.service() as service:
        assert service.list_backups() == []
        moving.import_archive(service, archive)
        archive.unlink()
        exported = moving.export_backup(service, name, scene.backups).path
    assert exported == archive
    with scene.service(BACKUP_REPOSITORY="", BACKUP_ENCRYPTION_KEY="") as service:
        (listed,) = service.list_backups()
        assert listed["locations"] == ["local"] and listed["condition"] == "good"
        service.verify(name)


def test_browsing_and_one_file_out(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        _, page = moving.browse(service, name, "files/templates", 100, None)
        there = {path.name for path in (scene.app / "backend/templates").iterdir()}
        assert {child.name for child in page.children} == there
        wanted = next(child for child in page.children if child.entry is not None and child.entry.size)
        out = scene.root / "out"
        service.restore_beside(name, Wishes(paths=(wanted.path,), folder=str(out)))
    assert (out / wanted.name).read_bytes() == (scene.app / "backend/templates" / wanted.name).read_bytes()


def test_a_drill_from_the_repository_leaves_its_evidence_in_backup_dir(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        result = service.drill()
        assert result.passed and result.path == scene.backups / f"{name}.drill.json" and result.path.is_file()
        assert len(result.report["archive_digest"]) == 64
        service.delete(name)
    assert not result.path.exists()
    assert objects(scene, "manifests") == []


def test_retention_deletes_and_the_prune_frees(scene: Scene) -> None:
    with scene.service(MAX_BACKUPS="2") as service:
        names = [service.backup().name for _ in range(2)]
        (scene.app / "uploads/large.bin").write_bytes(os.urandom(3 << 20))
        third = service.backup()
        assert [one.decision.name for one in third.pruned.deleted] == names[:1] and third.failures == ()
        assert third.pruned.collected is not None
    (scene.app / "uploads/large.bin").unlink()
    with scene.service() as service:
        fourth = service.backup().name
        for one in [names[1], third.name]:
            service.delete(one)
        before = sum(path.stat().st_size for path in objects(scene, "packs"))
        planned = service.prune(dry_run=True)
        assert planned.collected is not None and planned.to_json()["repository"]["frees_bytes"] > 3 << 20
        assert sum(path.stat().st_size for path in objects(scene, "packs")) == before
        with pytest.raises(CollectionRefused, match="more than 50 %"):
            service.prune()
        done = service.prune(accept=True)
        assert done.collected is not None and done.collected.freed > 3 << 20
        assert sum(path.stat().st_size for path in objects(scene, "packs")) < before - (3 << 20)
        service.verify(fourth)


def test_57_a_machine_misses_the_newest_backup_although_no_other_tells_of_it(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(2)]
        manifest = service.show(names[1])["archive_path"].rpartition("/")[2]
    for folder in ("manifests", "outcomes"):
        (found,) = [path for path in objects(scene, folder) if path.name == manifest]
        found.unlink()
    with scene.service() as service, pytest.raises(CollectionRefused, match=manifest):
        service.prune()


def test_more_than_half_of_the_backups_never_go_unasked(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(3)]
    with scene.service(MAX_BACKUPS="1") as service:
        with pytest.raises(CollectionRefused, match="2 of 3 backups"):
            service.prune()
        fourth = service.backup()
        assert "3 of 4 backups" in fourth.failures[0] and fourth.pruned.deleted == ()
        assert len(service.list_backups()) == 4
        service.prune(accept=True)
        assert [one["backup_name"] for one in service.list_backups()] == [fourth.name] and names


def test_51_what_a_prune_deletes_is_named_by_one_record(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(4)]
    with scene.service(MAX_BACKUPS="1") as service:
        pruned = service.prune(accept=True)
        assert {one.decision.name for one in pruned.deleted} == set(names[:3]) and pruned.errors == ()
        assert [one["backup_name"] for one in service.list_backups()] == names[3:]
    assert len(objects(scene, "manifests")) == len(objects(scene, "outcomes")) == 1
    assert len(objects(scene, "records")) <= 2  # the other one is of the packs
    with scene.service() as service:
        assert service.verify_all().sound == tuple(names[3:])


def test_51_a_prune_deletes_the_others_although_somebody_was_quicker_with_one(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(4)]
        holdings = service.inventory.holdings
        service.list_backups()
        with scene.service() as other:
            other.delete(names[1])
        assert holdings.delete_all(names[:3]) == {}
        assert [one["backup_name"] for one in service.list_backups()] == names[3:]


def test_67_no_machine_takes_a_name_that_another_is_about_to_take(scene: Scene) -> None:
    with scene.service() as service, ExitStack() as others:
        repository = readiness.repository(service).open().repository
        now = scene.clock.now()
        names = [f"radiology_backup_{now + timedelta(seconds=ahead):%Y%m%d_%H%M%S}" for ahead in range(3)]
        assert all(others.enter_context(reserving(repository, name)) for name in names)
        with reserving(repository, names[0]) as free:
            assert not free
        taken = service.backup()
        assert taken.name not in names
    with scene.service() as service:
        assert objects(scene, "intents") == [] and service.verify_all().sound == (taken.name,)


def test_67_a_machine_that_asks_for_every_name_stops_no_backup(scene: Scene) -> None:
    with scene.service() as service, ExitStack() as others:
        repository = readiness.repository(service).open().repository
        now = scene.clock.now()
        for ahead in range(40):
            name = f"radiology_backup_{now + timedelta(seconds=ahead):%Y%m%d_%H%M%S}"
            others.enter_context(reserving(repository, name))
        assert service.backup().failures == ()


def test_67_of_two_that_ask_at_once_never_both_get_the_name(scene: Scene) -> None:
    with scene.service() as service:
        repository = readiness.repository(service).open().repository
    together = threading.Barrier(2)

    def ask(number: int) -> bool:
        together.wait()
        with reserving(repository, f"radiology_backup_{number}") as free:
            together.wait()
            return free

    with ThreadPoolExecutor(2) as pool:
        for number in range(100):
            assert not all(pool.map(ask, [number] * 2))


def test_a_safety_backup_goes_into_the_repository(scene: Scene) -> None:
    with scene.service(RESTORE_SAFETY_BACKUP="true") as service:
        name = service.backup().name
        restored = service.restore(name, ALL)
        assert restored.safety_backup in {one["backup_name"] for one in service.list_backups()}
    assert scene.archives() == []


def test_a_wrong_key_opens_nothing_and_touches_nothing(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
    before = {path: path.read_bytes() for path in objects(scene, "")}
    for more, error in (
        ({"BACKUP_ENCRYPTION_KEY": "another one altogether"}, KeyRefused),
        ({"BACKUP_ENCRYPTION_KEY": ""}, KeyRefused),
        ({"BACKUP_REPOSITORY": str(scene.app)}, RepositoryError),
    ):
        with scene.service(**more) as service, pytest.raises(error):
            service.backup()
    assert {path: path.read_bytes() for path in objects(scene, "")} == before


def test_where_backups_were_no_new_repository_is_made_before_somebody_says_so(scene: Scene) -> None:
    place, away = scene.root / "repository", scene.root / "unmounted"
    with scene.service() as service:
        name = service.backup().name
    place.rename(away)
    place.mkdir()
    with scene.service() as service:
        with pytest.raises(RepositoryError, match="has seen backups") as refused:
            readiness.make_repository(service)
        assert str(scene.backups / "repository-cache") in refused.value.hint
    assert list(place.iterdir()) == []
    place.rmdir()
    away.rename(place)
    with scene.service() as service:
        assert not readiness.make_repository(service).new
        assert [one["backup_name"] for one in service.list_backups()] == [name]
    shutil.rmtree(place)
    shutil.rmtree(scene.backups / "repository-cache")
    with scene.service() as service:
        assert readiness.make_repository(service).new


def test_a_backup_waits_for_the_kit_to_be_proven(scene: Scene) -> None:
    kit = scene.root / "kit.txt"
    with scene.service() as service:
        readiness.make_repository(service, kit=kit)
        with pytest.raises(KeyRefused, match="never proven"):
            service.backup()
        assert service.list_backups() == []
        prove_kit(readiness.repository(service).keys(), kit.read_text())
    with scene.service() as service:
        name = service.backup().name
    with scene.service(BACKUP_ENCRYPTION_KEY="", BACKUP_RECOVERY_KIT_FILE=str(kit)) as service:
        service.verify(name)
    with scene.service(BACKUP_RECOVERY_KIT_FILE=str(kit)) as service:
        assert service.drill().report["recovery_kit"] == "proven"
        kit.write_text("nothing of the kind")
        failed = service.drill()
        assert not failed.passed and failed.report["recovery_kit"] == "failed"
        assert failed.report["differences"][0].startswith("The recovery kit does not open the repository")


def test_a_manifest_that_is_lost_or_broken_is_told(scene: Scene) -> None:
    with scene.service() as service:
        names = [service.backup().name for _ in range(2)]
        broken = Path(service.show(names[0])["archive_path"])
    data = bytearray(broken.read_bytes())
    data[-1] ^= 1
    broken.chmod(0o600)
    broken.write_bytes(data)
    with scene.service() as service:
        assert [one["backup_name"] for one in service.list_backups()] == names[1:]
        assert any(broken.name in one for one in service.warnings())

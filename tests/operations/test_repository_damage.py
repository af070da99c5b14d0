"""A repository in which something is damaged: verifications tell, lists know it, backups mend it; and imports that find
their backup there already."""

from __future__ import annotations

import os
import subprocess

import pytest

from resurgam import moving, readiness
from resurgam.errors import DamagedError, StoreUnreachable, UsageError, VerifyFailed
from resurgam.operations.repository_keys import rotate
from resurgam.repository.run import About, RepositoryRun
from resurgam.service import Service
from resurgam.stores.object_folder import FolderStore
from tests.operations.namespaces import in_child, mount, needs_mounts, own_mounts
from tests.operations.processes import start
from tests.operations.scene import Scene
from tests.operations.test_repository import in_repository, objects


@pytest.fixture
def scene(scene: Scene) -> Scene:
    return in_repository(scene)


def test_64_a_full_verification_of_one_backup_tells_writers_what_is_damaged(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        service.verify(name)
        largest = max(objects(scene, "packs"), key=lambda path: path.stat().st_size)
        data = bytearray(largest.read_bytes())
        data[len(data) // 2] ^= 1
        largest.write_bytes(data)
    with scene.service() as service:
        assert _conditions(service) == {name: "good"}  # nobody has found out
        with pytest.raises(DamagedError):
            service.verify(name)
        assert _conditions(service) == {name: "damaged"} and "A verification found" in service.show(name)["problem"]
        assert "damaged_backup" in {one.code for one in service.health().reasons}
    with scene.service() as service:
        assert _conditions(service) == {name: "damaged"}
        second = service.backup()
        assert second.added and second.added > 1000  # what was damaged was stored again
        assert _conditions(service) == {name: "good", second.name: "good"}
        service.verify(second.name)
        service.verify(name)


def test_of_several_backups_those_are_damaged_that_need_what_a_verification_found_hurt(scene: Scene) -> None:
    with scene.service() as service:
        first = service.backup().name
        before = set(objects(scene, "packs"))
        (scene.app / "uploads/new.bin").write_bytes(os.urandom(1 << 20))
        second = service.backup().name
        newer = max(set(objects(scene, "packs")) - before, key=lambda path: path.stat().st_size)
        newer.write_bytes(newer.read_bytes()[:-100])
    (scene.app / "uploads/new.bin").unlink()
    with scene.service() as service:
        with pytest.raises(VerifyFailed):
            service.verify_all()
        assert _conditions(service) == {first: "good", second: "damaged"}
        assert service.drill().passed  # of the newest good one
        third = service.backup().name
        assert _conditions(service) == {first: "good", second: "damaged", third: "good"}
        assert service.show(third)["metadata"]["sequence"] == 3
    shown = start(scene, "list")
    assert shown.end() == 0
    assert f"{second}: A verification found" in (shown.place / "out").read_text()


def _conditions(service: Service) -> dict[str, str]:
    return {one["backup_name"]: one["condition"] for one in service.list_backups()}


@needs_mounts
@pytest.mark.parametrize("kind", ["archives", "repository"])
def test_a_dry_run_of_a_prune_works_on_a_read_only_disk(scene: Scene, kind: str) -> None:
    more = {"MAX_BACKUPS": "1"} | ({"BACKUP_REPOSITORY": "", "BACKUP_ENCRYPTION_KEY": ""} if kind == "archives" else {})

    def planned() -> list[str]:
        mount("--bind", scene.root, scene.root)
        mount("-o", "remount,ro,bind", scene.root)
        with scene.service(**more) as service:
            return [one.decision.name for one in service.prune(dry_run=True).deleted]

    with scene.service(**{**more, "MAX_BACKUPS": "9"}) as service:
        names = [service.backup().name for _ in range(3)]
        service.pin(names[0])
    assert in_child(planned, mounts=own_mounts) == [names[1]]


def test_66_a_prune_after_a_rotation_says_what_it_freed_net(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
        rotate(readiness.repository(service).keys())
    before = sum(path.stat().st_size for path in objects(scene, "packs"))
    with scene.service() as service:
        done = service.prune().to_json()["repository"]
    after = sum(path.stat().st_size for path in objects(scene, "packs"))
    assert done["deleted_packs"] and done["rewritten_bytes"] == after
    assert done["freed_bytes"] == max(0, before - after) < before / 2


def test_46_what_fails_after_the_commit_makes_the_backup_no_failure(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: object, *_: object) -> None:
        raise StoreUnreachable("The store gives no answer.")

    def committed(self: RepositoryRun, about: About, metadata: bytes) -> bytes:
        made = commit(self, about, metadata)
        monkeypatch.setattr(FolderStore, "list", gone)
        monkeypatch.setattr(FolderStore, "time", gone)
        return made

    commit = RepositoryRun.commit
    with scene.service() as service:
        service.backup()
        monkeypatch.setattr(RepositoryRun, "commit", committed)
        taken = service.backup()
        assert "The store gives no answer." in taken.failures[0] and taken.pruned.deleted == ()
    monkeypatch.undo()
    with scene.service() as service:
        assert service.list_backups()[0]["backup_name"] == taken.name
        service.verify(taken.name)


def test_an_import_of_what_is_there_already_succeeds_only_if_it_is_the_same(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        there = service.list_backups()
        exported = moving.export_backup(service, name, scene.root).path
        again = moving.import_archive(service, exported)
        assert not again.new and again.to_json()["imported"] is False
        assert (again.name, again.place, again.size) == (name, there[0]["archive_path"], there[0]["size_bytes"])
    unpacked = scene.root / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "xzf", exported, "-C", unpacked], check=True)
    exported.unlink()
    changed = next(path for path in (unpacked / name / "files/templates").rglob("*") if path.is_file())
    stamps, data = changed.stat(), bytearray(changed.read_bytes())
    data[0] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))
    subprocess.run(["tar", "czf", exported, "-C", unpacked, name], check=True)
    with scene.service() as service:
        with pytest.raises(UsageError, match="another backup"):
            moving.import_archive(service, exported)
        assert service.list_backups() == there
        service.verify(name)

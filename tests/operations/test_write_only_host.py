"""Write-only hosts: what they add, what they can't read, and what a broken one can't do to the others."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product

import pytest

from resurgam import moving, readiness
from resurgam.errors import KeyRefused
from resurgam.operations.repository_keys import make_writer_key
from resurgam.operations.restore import Wishes
from resurgam.repository.layout import manifest_key, new_id, outcome_key
from resurgam.repository.manifests import Manifest
from resurgam.repository.sealing import Kind, Sealer
from tests.operations.scene import Scene
from tests.operations.test_repository import ALL, in_repository


@pytest.fixture
def scene(scene: Scene) -> Scene:
    return in_repository(scene)


def test_a_write_only_host_adds_backups_and_reads_none(scene: Scene) -> None:
    key = scene.root / "writer.key"
    with scene.service() as service:
        make_writer_key(readiness.repository(service).keys(), key)
    with scene.service(BACKUP_ENCRYPTION_KEY="", BACKUP_WRITER_KEY_FILE=str(key)) as service:
        names = [service.backup().name for _ in range(2)]
        assert service.list_backups() == [] and any("write-only" in one for one in service.warnings())
        moment = "2100-01-01 00:00"
        for asked in (
            lambda: service.verify(names[0]),
            lambda: service.verify_all(),
            lambda: service.verify_all(full=False),
            lambda: service.show(names[0]),
            lambda: service.restore(names[0], ALL),
            lambda: service.plan_restore(names[0], ALL),
            lambda: service.restore_beside(names[0], Wishes(paths=("files",), folder=str(scene.root / "out"))),
            lambda: service.drill(),
            lambda: service.drill(names[0]),
            lambda: service.delete(names[0]),
            lambda: service.inventory.as_of(moment),
            lambda: service.listing.find(names[0]),
            lambda: moving.export_backup(service, names[0], scene.root),
            lambda: moving.browse(service, names[0], "", 10, None),
        ):
            with pytest.raises(KeyRefused, match="write-only key") as refused:
                asked()
            assert "on a machine that has the passphrase" in refused.value.hint
    with scene.service() as service:
        assert [one["backup_name"] for one in service.list_backups()] == names[::-1]
        assert [one["sequence"] for one in service.list_backups()] == [2, 1]
        service.verify_all()


def test_a_flood_by_a_write_only_host_pushes_out_no_backup_of_the_others(scene: Scene) -> None:
    key = scene.root / "writer.key"
    with scene.service() as service:
        names = [service.backup().name for _ in range(2)]
        make_writer_key(readiness.repository(service).keys(), key)
    scene.clock.sleep(1)  # it can't see which name this second's backup has
    with scene.service(BACKUP_ENCRYPTION_KEY="", BACKUP_WRITER_KEY_FILE=str(key)) as service:
        flood = [service.backup().name for _ in range(4)]
    with scene.service(MAX_BACKUPS="2") as service:
        pruned = service.prune(accept=True)
        assert sorted(one.decision.name for one in pruned.deleted) == flood[:2]
        assert [one["backup_name"] for one in service.list_backups()] == [*flood[:1:-1], *names[::-1]]
        service.verify_all()


def test_a_broken_write_only_host_can_not_take_the_place_of_another_backup(scene: Scene) -> None:
    """It puts a manifest of the same name, which the store's clock says was there first."""
    with scene.service() as service:
        taken = service.backup()
        access = readiness.repository(service)
        make_writer_key(access.keys(), scene.root / "writer.key")
        repository = access.open().repository
        manifest = repository.backups()[0][0].manifest
    host, name = Sealer(replace(repository.keys, auth_full=None)), new_id()
    head = replace(manifest.head, sequence=10**9)
    text = host.seal_text(Kind.MANIFEST, name, replace(manifest, head=head).encode())
    repository.store.put(manifest_key(name), text)
    repository.store.put(outcome_key(name), host.seal_text(Kind.OUTCOME, name, b'{"outcome": "committed"}'))
    os.utime(scene.root / "repository" / manifest_key(name), (5, 5))
    with scene.service() as service:
        (listed,) = service.list_backups()
        assert listed["archive_path"] == taken.archive_path
        assert any(name.hex() in one for one in service.warnings())
        assert service.backup().metadata["sequence"] < 10
        service.prune()
        assert service.verify(taken.name).path == taken.archive_path


def test_what_a_broken_write_only_host_says_of_its_backup_stops_no_list(scene: Scene) -> None:
    with scene.service() as service:
        taken = service.backup()
        repository = readiness.repository(service).open().repository
        manifest = repository.backups()[0][0].manifest
    host = Sealer(replace(repository.keys, auth_full=None))
    odd: list[dict[str, object]] = [
        {"name": "../../etc/passwd"},
        {"stored": 1 << 60, "sequence": 1 << 60},
        {"app": "x" * 1000, "host": "\x1b[2J"},
    ]
    metadata = [b"{}", b"[" * 99_999, b'{"sequence": 1e400, "database": []}', b'{"datetime": "x", "database": 7}']
    metadata.append(
        b'{"sequence": 18446744073709551616, "datetime_utc": "9999-99-99", "database": {"size": "\\ud800"}}'
    )
    for number, (change, text) in enumerate(product(odd, metadata)):
        name = new_id()
        title = f"radiology_backup_2030{number:04}_000000"
        head = replace(manifest.head, **{"name": title, **change})  # type: ignore[arg-type]
        raw = text.replace(b"{", b'{"backup_name": "%s", ' % title.encode()).replace(b", }", b"}")
        sealed = host.seal_text(Kind.MANIFEST, name, Manifest.of(head, raw, manifest.chunks).encode())
        repository.store.put(manifest_key(name), sealed)
        repository.store.put(outcome_key(name), host.seal_text(Kind.OUTCOME, name, b'{"outcome": "committed"}'))
    with scene.service() as service:
        assert taken.name in {one["backup_name"] for one in service.list_backups()}
        assert service.show(taken.name)["metadata"] == taken.metadata
        assert all("\x1b" not in one for one in service.warnings())
        service.backup()
        service.prune(accept=True)
        assert taken.name in {one["backup_name"] for one in service.list_backups()}

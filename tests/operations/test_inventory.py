"""Which backups there are: what lies in the folders, whatever happened to the catalog."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from resurgam.errors import NotFoundError
from resurgam.operations.inventory import megabytes
from tests.clusters import Database
from tests.operations.scene import Scene, scene_for


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none")
    made.app.mkdir()
    made.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    return made


def _foreign(folder: Path, name: str, metadata: object) -> Path:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        content = json.dumps(metadata).encode() if not isinstance(metadata, bytes) else metadata
        info = tarfile.TarInfo(f"{name}/backup_metadata.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    path = folder / f"{name}.tar.gz"
    path.write_bytes(gzip.compress(out.getvalue()))
    return path


def test_an_entry_has_the_manuals_keys(scene: Scene) -> None:
    with scene.service() as service:
        taken = service.backup()
        (entry,) = service.list_backups()
    path = scene.backups / f"{taken.name}.tar.gz"
    manual = {
        "backup_name": taken.name,
        "timestamp": taken.name[-15:],
        "datetime": taken.metadata["datetime"][:19],
        "archive_path": str(path),
        "size_mb": megabytes(path.stat().st_size),
        "database_size_mb": taken.metadata["database"]["size_mb"],
    }
    assert {key: entry[key] for key in manual} == manual
    assert list(entry)[:6] == list(manual)
    json.dumps(entry)
    with scene.service() as service:
        shown = service.show(taken.name)
        assert {key: shown[key] for key in manual} == manual
        assert shown["metadata"]["backup_name"] == taken.name
        assert service.show(f"{taken.name}.tar.gz") == shown


def test_scenario_1_a_deleted_catalog_and_archives_copied_into_an_empty_folder(scene: Scene) -> None:
    with scene.service() as service:
        for _ in range(4):
            service.backup()
        before = service.list_backups()
    for path in scene.backups.glob("catalog*"):
        path.unlink()
    with scene.service() as service:
        assert service.list_backups() == before
    moved = scene.root / "moved"
    moved.mkdir()
    for path in scene.backups.glob("*.tar.gz"):
        shutil.copy(path, moved)  # the manual's cp: new inodes, new times
    with scene.service(BACKUP_DIR=str(moved)) as service:
        listed = service.list_backups()
        assert [one["backup_name"] for one in listed] == [one["backup_name"] for one in before]
        assert [one["sequence"] for one in listed] == [4, 3, 2, 1]
        assert service.backup().metadata["sequence"] == 5


def test_what_was_added_changed_and_removed_meanwhile(scene: Scene) -> None:
    with scene.service() as service:
        first, second, third = (service.backup().name for _ in range(3))
        (scene.backups / f"{first}.tar.gz").unlink()
        path = scene.backups / f"{second}.tar.gz"
        path.write_bytes(path.read_bytes()[:-10])
        listed = {one["backup_name"]: one for one in service.list_backups()}
    assert set(listed) == {second, third}
    assert listed[second]["condition"] == "damaged" and listed[second]["problem"]
    assert listed[third]["condition"] == "good"


def test_other_files_are_none_of_our_business(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        for other in (
            "notes.tar.gz",
            "radiology_backup_1.tar.gz",
            f"{name}.tar.gz.txt",
            "wal/000000010000000000000001",
        ):
            (scene.backups / other).parent.mkdir(exist_ok=True)
            (scene.backups / other).write_text("x")
        (scene.backups / "radiology_backup_20200101_000000.tar.gz").mkdir()
        (scene.backups / "radiology_backup_20200102_000000.tar.gz").symlink_to("nothing")
        assert [one["backup_name"] for one in service.list_backups()] == [name]
        service.prune()
        assert (scene.backups / "wal/000000010000000000000001").exists()


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"datetime": "2025-01-04T14:30:22.123456", "database": {"size_mb": 38.1}},
        {"sequence": 10**40, "datetime": 5, "database": [1]},
        {"sequence": -1, "database": {"size_mb": float("inf")}},
        {"sequence": True, "database": {"size_mb": float("nan"), "size_bytes": -4}},
        {"datetime_utc": "0001-01-01T00:00:00+23:59"},
        {"database": {"size_bytes": 2**63}},
        {"weird": "\ud800", "list": [None] * 10},
    ],
)
def test_a_foreign_archive_is_listed_whatever_its_metadata_say(scene: Scene, metadata: dict[str, object]) -> None:
    scene.backups.mkdir()
    name = "radiology_backup_20250104_143022"
    _foreign(scene.backups, name, {"backup_name": name, **metadata})
    with scene.service() as service:
        (entry,) = service.list_backups()
        assert entry["condition"] == "foreign" and entry["backup_name"] == name
        json.dumps(entry)
        service.show(name)
        taken = service.backup()
        assert service.list_backups()[0]["backup_name"] == taken.name


def test_unknown_names_are_not_found(scene: Scene) -> None:
    with scene.service() as service:
        for name in ("radiology_backup_20250104_143022", "", "..", "a/b", "\x1b[31m", "ü" * 300):
            with pytest.raises(NotFoundError) as caught:
                service.show(name)
            assert "\x1b" not in caught.value.message


def test_an_empty_or_missing_folder_is_an_empty_list(scene: Scene) -> None:
    with scene.service(BACKUP_DIR=str(scene.root / "not there")) as service:
        assert service.list_backups() == []

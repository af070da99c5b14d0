"""Archives that others made, as the manual lays them out: restored, and never trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resurgam.demo.proof import differences
from resurgam.errors import (
    ResurgamError,
    VerifyFailed,
)
from resurgam.operations.restore import Parts
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database
from tests.operations.made_archives import FOREIGN, foreign_archive, without_times
from tests.operations.scene import Scene, scene_for


def test_a_foreign_archive_comes_back(pg: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    scene = scene_for(database, tmp_path).make()
    before = scene.seen()
    foreign_archive(scene)
    with scene.service() as service:
        (listed,) = service.list_backups()
        assert listed["condition"] == "foreign"
        assert listed["datetime"] == "2025-01-04T14:30:22"
        verified = service.verify(FOREIGN)
        assert verified.foreign and verified.total_files > 20 and verified.tables >= 10
        scene.wreck()
        service.restore(FOREIGN, Parts())
    assert differences(without_times(before), without_times(scene.seen())) == []
    assert scene.leftovers() == []


def test_a_foreign_archive_without_folder_entries_is_verified_and_restored(scene: Scene) -> None:
    before = without_times(scene.seen())
    foreign_archive(scene, folders=False)
    with scene.service() as service:
        service.verify(FOREIGN)
        scene.wreck()
        service.restore(FOREIGN, Parts())
    after = without_times(scene.seen())
    assert after.tables == before.tables
    regular = {name: what for name, what in before.files.items() if what.startswith("-")}
    assert {name: after.files.get(name) for name in regular} == regular


def test_a_foreign_archive_into_a_missing_database(scene: Scene) -> None:
    before = scene.seen()
    foreign_archive(scene)
    scene.administer(f"DROP DATABASE {scene.database}")
    with scene.service() as service:
        service.restore(FOREIGN, Parts(True, False, False))
    after = scene.seen()
    assert after.tables == before.tables
    assert after.large_objects == before.large_objects


@pytest.mark.parametrize(
    "properties",
    [
        5,
        [],
        {},
        {"owner": 7},
        {"grants": [{"grantee": 5, "privilege": "CREATE", "grantable": 1}]},
        {"settings": [{"role": "", "name": 3, "value": None}]},
        {"labels": [["x"]]},
        {"encoding": "KLINGON"},
        {"connection_limit": True},
        {"tablespace": "nowhere"},
        {"collate": "xx_XX.nothing"},
        {"provider": "martian", "locale": {"a": 1}},
        {"comment": ["a"]},
        {"icu_rules": 4, "provider": "icu", "locale": "und"},
    ],
)
def test_hostile_properties_are_refused_or_without_effect(standing: Scene, properties: Any) -> None:
    sound: dict[str, Any] = {
        "owner": standing.role,
        "encoding": "UTF8",
        "provider": "libc",
        "collate": "C",
        "ctype": "C",
        "locale": None,
        "icu_rules": None,
        "tablespace": "pg_default",
        "connection_limit": -1,
        "allows_connections": True,
        "is_template": False,
        "comment": None,
        "grants": None,
        "settings": [],
        "labels": [],
    }
    wrong = {**sound, **properties} if isinstance(properties, dict) and properties else properties
    database = {"success": True, "file": "database_20250104_143022.sql", "properties": wrong}
    foreign_archive(standing, metadata={"database": database})
    before = standing.seen()
    with standing.service() as service:
        service.list_backups()
        with pytest.raises(ResurgamError):
            service.restore(FOREIGN, Parts(True, False, False))
    assert differences(before, standing.seen()) == []
    assert standing.leftovers() == []


_HOSTILE = {
    "absolute": ("/etc/resurgam-was-here", b"0", b"x", ""),
    "dots": (f"{FOREIGN}/files/uploads/../../../../escaped", b"0", b"x", ""),
    "other top": ("elsewhere/files/uploads/x", b"0", b"x", ""),
    "device": (f"{FOREIGN}/files/uploads/null", b"3", b"", ""),
    "fifo": (f"{FOREIGN}/files/uploads/pipe", b"6", b"", ""),
    "through a link": (f"{FOREIGN}/files/uploads/out/escaped", b"0", b"x", ""),
    "hard link out": (f"{FOREIGN}/files/uploads/shadow", b"1", b"", "/etc/passwd"),
    "duplicate": (f"{FOREIGN}/backup_metadata.json", b"0", b"{}", ""),
    "env": (f"{FOREIGN}/config/.env", b"0", b"SECRET=1", ""),
    "config link": (f"{FOREIGN}/config/docker-compose.yml", b"2", b"", "/etc/passwd"),
    "config elsewhere": (f"{FOREIGN}/config/.bashrc", b"0", b"evil", ""),
    "another tree": (f"{FOREIGN}/files/ssh/authorized_keys", b"0", b"evil", ""),
}


@pytest.mark.parametrize("kind", _HOSTILE)
def test_a_hostile_archive_writes_nothing_anywhere(standing: Scene, kind: str) -> None:
    import gzip
    import io
    import tarfile

    path = foreign_archive(standing)
    name, form, content, target = _HOSTILE[kind]
    out = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=out, mode="w") as new:
        for info in old:
            if kind == "config link" and info.name == name:
                continue
            new.addfile(info, old.extractfile(info) if info.isreg() else None)
        extra: list[tuple[str, bytes, bytes, str]] = [(name, form, content, target)]
        if kind == "through a link":
            extra.insert(0, (f"{FOREIGN}/files/uploads/out", b"2", b"", str(standing.root)))
        for name, form, content, target in extra:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = form, len(content), target
            new.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(out.getvalue(), 1))
    before = standing.seen()
    outside = sorted(str(p) for p in standing.root.rglob("*") if not p.is_relative_to(standing.backups))
    with standing.service() as service:
        with pytest.raises(ResurgamError):
            service.restore(FOREIGN, Parts())
        assert differences(before, standing.seen()) == []
        assert standing.leftovers() == [] and standing.databases() == set()
    now = sorted(str(p) for p in standing.root.rglob("*") if not p.is_relative_to(standing.backups))
    assert [path for path in now if path not in outside and not path.endswith("backup.log")] == []
    assert not Path("/etc/resurgam-was-here").exists()


def test_a_backup_whose_database_part_had_failed_gives_back_its_files(scene: Scene) -> None:
    """The first implementation called such a thing a success."""
    before = scene.seen()
    foreign_archive(scene, metadata={"database": {"success": False, "error": "pg_dump not found"}})
    with scene.service() as service:
        for act in (service.verify, lambda name: service.restore(name, Parts())):
            with pytest.raises(VerifyFailed, match="holds no database"):
                act(FOREIGN)
        scene.wreck()
        service.restore(FOREIGN, Parts(False, True, True))
    after = without_times(scene.seen())
    assert after.files == without_times(before).files

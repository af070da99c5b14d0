"""Backup, accident, restore: everything comes back; and what can't come back leaves everything as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resurgam.archive.writer import ArchiveWriter
from resurgam.demo.cluster import EmbeddedServer
from resurgam.demo.proof import differences
from resurgam.errors import (
    ArchiveError,
    BusyError,
    NotFoundError,
    RestoreRefused,
    ResurgamError,
    UsageError,
    VerifyFailed,
)
from resurgam.operations.restore import Parts
from resurgam.postgres import swap
from tests.clusters import Database, Role, create_database, create_owner, drop_database, drop_owner
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.operations.scene import CONFIG, Scene, lost, protected, scene_for


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return scene_for(database, tmp_path).make()


@pytest.fixture(scope="module")
def whole(pg16: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Path]]:
    """An application that no test changes, with a backup of it."""
    made = create_database(pg16)
    scene = scene_for(made, tmp_path_factory.mktemp("whole")).make()
    with scene.service() as service:
        taken = service.backup()
    yield scene, taken.archive_path
    drop_database(pg16, made.name)


@pytest.fixture
def standing(whole: tuple[Scene, Path], tmp_path: Path) -> Scene:
    """The same application, with a backup folder of the test's own that holds the backup; nothing may change it."""
    scene, archive = whole
    own = replace(scene, root=tmp_path, app_at=scene.app)
    own.backups.mkdir()
    shutil.copy(archive, own.backups)
    return own


# Everything, and parts of it


def test_everything_comes_back_for_a_superuser(pg: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    _round(scene_for(database, tmp_path).make())


def test_everything_comes_back_for_a_plain_owner(
    pg: EmbeddedServer, owned_database: Database, owner_role: Role, tmp_path: Path
) -> None:
    _round(scene_for(owned_database, tmp_path, owner_role).make())


def _round(scene: Scene) -> None:
    before = scene.seen()
    with scene.service() as service:
        taken = service.backup()
        assert service.verify(taken.name).rows == sum(rows for _, _, rows in taken.metadata["database"]["tables"])
        scene.wreck()
        damaged = scene.seen()
        assert len(lost(before, damaged)) > 10
        restored = service.restore(taken.name, Parts())
    assert lost(before, scene.seen()) == []
    assert scene.leftovers() == []
    # What was replaced is kept, as it was.
    assert restored.previous_database is not None
    assert scene.databases() == {restored.previous_database}
    kept = scene.seen(scene.server.dsn(restored.previous_database, scene.role, scene.password))
    assert kept.tables == damaged.tables
    for kept_path in restored.kept:
        assert kept_path.previous is not None and kept_path.previous.exists()


@pytest.mark.parametrize(
    "parts", [Parts(True, False, False), Parts(False, True, False), Parts(False, False, True), Parts(False, True, True)]
)
def test_only_what_was_asked_for_comes_back(scene: Scene, parts: Parts) -> None:
    before = protected(scene.seen())
    with scene.service() as service:
        taken = service.backup()
        scene.wreck()
        (scene.app / "docker-compose.yml").write_text("services: {}\n")
        damaged = protected(scene.seen())
        result = service.restore(taken.name, parts)
    after = protected(scene.seen())
    expected = replace(
        before if parts.database else damaged,
        files={
            name: (before if _wanted(name, parts) else damaged).files[name]
            for name in (before.files.keys() | damaged.files.keys())
            if name in (before if _wanted(name, parts) else damaged).files
        },
    )
    assert differences(expected, after) == []
    shown = result.to_json()
    assert shown["restored_database"] is parts.database
    assert bool(shown["restored_config"]) is parts.config
    assert bool(shown["restored_files"]) is parts.files
    assert bool(scene.databases()) is parts.database
    assert scene.leftovers() == []


def _wanted(name: str, parts: Parts) -> bool:
    return parts.config if name in CONFIG else parts.files


def test_nothing_asked_for_is_a_mistake(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        with pytest.raises(UsageError):
            service.restore(name, Parts(False, False, False))


def test_a_missing_database_is_created(scene: Scene) -> None:
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        scene.administer(f"DROP DATABASE {scene.database}")
        result = service.restore(name, Parts())
    assert result.previous_database is None
    assert scene.databases() == set()
    assert lost(before, scene.seen()) == []


def test_a_lost_machine_is_rebuilt_from_the_archive_alone(
    scene: Scene, database: Database, tmp_path: Path, server: EmbeddedServer
) -> None:
    """Scenario 1: no database, no folders, no catalog, no state."""
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
    archive = (scene.backups / f"{name}.tar.gz").read_bytes()
    scene.administer(f"DROP DATABASE {scene.database}")
    shutil.rmtree(scene.app)
    shutil.rmtree(scene.backups)
    scene.app.mkdir()
    scene.backups.mkdir()
    (scene.backups / f"{name}.tar.gz").write_bytes(archive)
    with scene.service() as service:
        assert [one["backup_name"] for one in service.list_backups()] == [name]
        service.restore(name, Parts())
    after = scene.seen()
    # The folder `backend` itself is in no backup: only what is in it.
    assert lost(before, after) == []


def test_restoring_twice_at_once_in_a_row_keeps_every_replaced_side(scene: Scene) -> None:
    """Two restores within one second must not want the same names."""
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        kept = {service.restore(name, Parts()).previous_database for _ in range(3)}
        service.plan_restore(name, Parts())
    assert len(kept) == 3
    assert scene.databases() == kept
    assert lost(before, scene.seen()) == []


def test_a_database_with_the_longest_name(server: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    long = (database.name + "_" + "ü" * 40).encode()[:62].decode(errors="ignore")
    scene = replace(scene_for(database, tmp_path), database=long)
    scene.administer(f'CREATE DATABASE "{long}" TEMPLATE template0')
    scene.make()
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        scene.wreck()
        first, second = (service.restore(name, Parts()).previous_database for _ in range(2))
    assert first and second and first != second
    assert max(len(first.encode()), len(second.encode())) <= 63
    assert lost(before, scene.seen()) == []


def test_an_archive_of_a_newer_state_is_not_needed_to_go_back_and_forth(scene: Scene) -> None:
    """Restore the old one, then the newer one: each is exactly what it was."""
    with scene.service() as service:
        first, old = scene.seen(), service.backup().name
        scene.wreck()
        # A restore fills materialized views anew: one that is out of date does not stay so.
        scene.execute("REFRESH MATERIALIZED VIEW public.reports_per_month")
        second, new = scene.seen(), service.backup().name
        service.restore(old, Parts())
        assert lost(first, scene.seen()) == []
        service.restore(new, Parts())
        assert lost(second, scene.seen()) == []


# What the manual shows


def test_the_answer_has_the_manuals_keys(scene: Scene) -> None:
    with scene.service() as service:
        taken = service.backup()
        answer = service.restore(taken.name, Parts()).to_json()
    assert answer["success"] is True
    assert answer["backup_name"] == taken.name
    assert answer["backup_date"] == taken.metadata["datetime"][:19]
    assert answer["warning"] == "Application may need to be restarted after restore completes"
    json.dumps(answer)


# Foreign archives


FOREIGN = "radiology_backup_20250104_143022"


def _foreign(scene: Scene, *, metadata: dict[str, Any] | None = None, folders: bool = True) -> Path:
    """The manual's layout, by plain pg_dump and plain tar, as the first implementation made it."""
    root = scene.root / "foreign" / FOREIGN
    (root / "config/backend").mkdir(parents=True)
    (root / "files").mkdir()
    for name in CONFIG:
        shutil.copy2(scene.app / name, root / "config" / name)
    subprocess.run(["cp", "-a", scene.app / "backend/templates", scene.app / "uploads", root / "files"], check=True)
    dump = root / "database_20250104_143022.sql"
    subprocess.run(
        [scene.server.bin / "pg_dump", "-f", dump, scene.dsn], check=True, env={"PATH": os.environ.get("PATH", "")}
    )
    fields: dict[str, Any] = {
        "backup_name": FOREIGN,
        "timestamp": "20250104_143022",
        "datetime": "2025-01-04T14:30:22.123456",
        "database": {"success": True, "file": dump.name, "size_mb": round(dump.stat().st_size / 1048576, 1)},
        "configuration": {"success": True, "files_count": len(CONFIG), "files": list(CONFIG)},
        "files": {"success": True, "directories_count": 2, "directories": ["templates", "uploads"]},
        "backup_size_mb": 45.3,
    }
    (root / "backup_metadata.json").write_text(json.dumps({**fields, **(metadata or {})}, indent=2))
    scene.backups.mkdir(exist_ok=True)
    archive = scene.backups / f"{FOREIGN}.tar.gz"
    what = [FOREIGN] if folders else sorted(str(p.relative_to(root.parent)) for p in root.rglob("*") if not p.is_dir())
    more = [] if folders else ["--no-recursion"]
    subprocess.run(["tar", "czf", archive, "-C", root.parent, *more, "--", *what], check=True)
    return archive


def _without_times(found: Any) -> Any:
    """GNU tar's default format keeps whole seconds only; a folder without an entry has no time at all."""
    cut = protected(found)
    # mode, owner, [links], time, digest: the time is the one long number
    files = {
        name: " ".join(part for part in what.split() if not (part.isdigit() and len(part) > 15))
        for name, what in cut.files.items()
    }
    return replace(cut, files=files)


def test_a_foreign_archive_comes_back(pg: EmbeddedServer, database: Database, tmp_path: Path) -> None:
    scene = scene_for(database, tmp_path).make()
    before = scene.seen()
    _foreign(scene)
    with scene.service() as service:
        (listed,) = service.list_backups()
        assert listed["condition"] == "foreign"
        assert listed["datetime"] == "2025-01-04T14:30:22"
        verified = service.verify(FOREIGN)
        assert verified.foreign and verified.total_files > 20 and verified.tables >= 10
        scene.wreck()
        service.restore(FOREIGN, Parts())
    assert differences(_without_times(before), _without_times(scene.seen())) == []
    assert scene.leftovers() == []


def test_a_foreign_archive_without_folder_entries_is_verified_and_restored(scene: Scene) -> None:
    before = _without_times(scene.seen())
    _foreign(scene, folders=False)
    with scene.service() as service:
        service.verify(FOREIGN)
        scene.wreck()
        service.restore(FOREIGN, Parts())
    after = _without_times(scene.seen())
    assert after.tables == before.tables
    regular = {name: what for name, what in before.files.items() if what.startswith("-")}
    assert {name: after.files.get(name) for name in regular} == regular


def test_a_foreign_archive_into_a_missing_database(scene: Scene) -> None:
    before = scene.seen()
    _foreign(scene)
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
    _foreign(standing, metadata={"database": database})
    before = standing.seen()
    with standing.service() as service:
        service.list_backups()
        with pytest.raises(ResurgamError):
            service.restore(FOREIGN, Parts(True, False, False))
    assert differences(before, standing.seen()) == []
    assert standing.leftovers() == []


# Refusals: everything at once, nothing touched


def test_all_problems_are_told_together(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
    before = scene.seen()
    with psycopg.connect(scene.dsn) as session:
        session.execute("SELECT 1")
        session.execute("PREPARE TRANSACTION 'held'")
    try:
        more = {"BACKUP_FILE_TREES": "uploads", "BACKUP_CONFIG_FILES": "requirements.txt"}
        with scene.service(**more) as service, pytest.raises(RestoreRefused) as caught:
            service.restore(name, Parts())
        problems = " ".join(caught.value.problems)
        assert "prepared transactions (held)" in problems
        assert "'templates'" in problems
        assert "'docker-compose.yml'" in problems
        with scene.service(**more) as service:
            assert service.plan_restore(name, Parts()).problems == caught.value.problems
    finally:
        scene.execute("ROLLBACK PREPARED 'held'")
    assert differences(before, scene.seen()) == []
    assert scene.leftovers() == [] and scene.databases() == set()


def test_a_role_that_may_not_create_databases_is_told_so(
    owned_database: Database, owner_role: Role, tmp_path: Path
) -> None:
    scene = scene_for(owned_database, tmp_path, owner_role).make()
    with scene.service() as service:
        name = service.backup().name
        scene.administer(f"ALTER ROLE {owner_role.name} NOCREATEDB")
        with pytest.raises(RestoreRefused, match=r"ALTER ROLE .* CREATEDB"):
            service.restore(name, Parts())
        service.restore(name, Parts(False, True, True))


def test_sessions_that_we_may_not_end_refuse_the_restore(
    owned_database: Database, owner_role: Role, tmp_path: Path
) -> None:
    scene = scene_for(owned_database, tmp_path, owner_role).make()
    with scene.service() as service:
        name = service.backup().name
        before = scene.seen()
        with psycopg.connect(scene.server.dsn(scene.database)), pytest.raises(RestoreRefused, match="may not end them"):
            service.restore(name, Parts())
        assert differences(before, scene.seen()) == []
        service.restore(name, Parts())


def test_somebody_elses_database_is_not_replaced(scene: Scene, server: EmbeddedServer) -> None:
    with scene.service() as service:
        name = service.backup().name
    role = create_owner(server)
    try:
        scene.administer(f"GRANT pg_read_all_data TO {role.name}")
        with (
            scene.service(DB_USER=role.name, DB_PASSWORD=role.password) as service,
            pytest.raises(RestoreRefused, match="only its owner may replace it"),
        ):
            service.restore(name, Parts(True, False, False))
    finally:
        drop_owner(server, role)


def test_a_database_that_refuses_connections_is_replaced(scene: Scene) -> None:
    """Scenario 2, corruption: nobody gets in any more, and that is when a restore is needed most."""
    before = scene.seen()
    with scene.service() as service:
        name = service.backup().name
        scene.wreck()
        scene.administer(f"ALTER DATABASE {scene.database} ALLOW_CONNECTIONS false")
        result = service.restore(name, Parts())
    assert result.previous_database is not None
    assert lost(before, scene.seen()) == []


def test_a_restore_during_a_backup_is_refused(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        with scene.service() as other, other.folder.lock(), pytest.raises(BusyError):
            service.restore(name, Parts())
        assert service.state.runs()[0].outcome == "refused"
        service.restore(name, Parts())


def test_an_unknown_name_is_not_found(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
        for name in ("radiology_backup_20010101_000000", "../etc/passwd", "", "x" * 5000, "a\0b"):
            with pytest.raises(NotFoundError):
                service.restore(name, Parts())


def test_a_glob_of_config_files_goes_both_ways(scene: Scene) -> None:
    with scene.service(BACKUP_CONFIG_FILES="**/*.py, *.yml, requirements.txt") as service:
        taken = service.backup()
        assert "backend/config.py" in taken.metadata["configuration"]["files"]
        before = scene.seen()
        (scene.app / "backend/config.py").unlink()
        (scene.app / "docker-compose.yml").write_text("broken")
        service.restore(taken.name, Parts(False, True, False))
    assert lost(before, scene.seen()) == []


def test_config_files_that_are_mounted_by_themselves(scene: Scene) -> None:
    """docker-compose mounts single files: they can't be renamed over, only written."""
    with scene.service() as service:
        name = service.backup().name
    before = protected(scene.seen())

    def mounts() -> None:
        for number, file in enumerate(("docker-compose.yml", "backend/config.py")):
            source = scene.root / f"source{number}"
            source.write_text("changed\n")
            mount("--bind", source, scene.app / file)

    def deed() -> list[str]:
        with scene.service() as service:
            service.restore(name, Parts(False, True, False))
        return [(scene.app / file).read_text() for file in ("docker-compose.yml", "backend/config.py")]

    expected = [(scene.app / file).read_text() for file in ("docker-compose.yml", "backend/config.py")]
    assert in_child(deed, mounts=mounts) == expected
    assert protected(scene.seen()).tables == before.tables


test_config_files_that_are_mounted_by_themselves = needs_mounts(test_config_files_that_are_mounted_by_themselves)


# Hostile and damaged archives


def _damages() -> dict[str, Any]:
    return {
        "empty": lambda data: b"",
        "half": lambda data: data[: len(data) // 2],
        "without its last byte": lambda data: data[:-1],
        "without its footer": lambda data: data[: data.rindex(b"Rf") - 12],
        "a bit of the dump": lambda data: _flip(data, len(data) // 3),
        "a bit of the first member": lambda data: _flip(data, 40),
        "a bit near the end": lambda data: _flip(data, len(data) - 300),
        "more behind it": lambda data: data + b"\0" * 512,
        "twice": lambda data: data + data,
        "no gzip": lambda data: b"PK\x03\x04" + data,
    }


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize("damage", _damages())
def test_a_damaged_archive_is_refused_and_nothing_is_touched(standing: Scene, damage: str) -> None:
    (path,) = standing.backups.glob("*.tar.gz")
    name = path.name.removesuffix(".tar.gz")
    path.write_bytes(_damages()[damage](path.read_bytes()))
    before = standing.seen()
    with standing.service() as service:
        with pytest.raises((ArchiveError, VerifyFailed)):
            service.verify(name)
        if damage == "a bit of the first member":
            return  # the top folder's header, of which a restore reads nothing
        with pytest.raises((ArchiveError, VerifyFailed)):
            service.restore(name, Parts())
    assert differences(before, standing.seen()) == []
    assert standing.leftovers() == [] and standing.databases() == set()


def test_a_renamed_archive_is_refused(standing: Scene) -> None:
    (path,) = standing.backups.glob("*.tar.gz")
    other = "radiology_backup_20200101_000000"
    path.rename(standing.backups / f"{other}.tar.gz")
    with standing.service() as service:
        for act in (service.verify, lambda name: service.restore(name, Parts())):
            with pytest.raises(ArchiveError, match="renamed"):
                act(other)


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

    path = _foreign(standing)
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


def test_a_hostile_dump_is_refused_before_anything_is_made(standing: Scene, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for line in (rf"\! touch {witness}", f"COPY public.users TO PROGRAM 'touch {witness}';", rf"\copy x to {witness}"):
        name = "radiology_backup_20240101_000000"
        _native_with_dump(standing, name, f"{line}\n-- PostgreSQL database dump complete\n".encode())
        before = standing.seen()
        with standing.service() as service, pytest.raises(ResurgamError):
            service.restore(name, Parts())
        assert differences(before, standing.seen()) == []
        assert standing.leftovers() == [] and standing.databases() == set()
        assert not witness.exists()


def _native_with_dump(scene: Scene, name: str, dump: bytes) -> Path:
    """An archive of ours, sound in itself, with another dump."""
    from resurgam.archive.entry import Entry, Kind

    scene.backups.mkdir(exist_ok=True)
    path = scene.backups / f"{name}.tar.gz"
    with path.open("w+b") as file, ArchiveWriter(file.fileno(), name, mtime_ns=0) as writer:
        stamp = name.rpartition("_backup_")[2]
        writer.add(Entry(b"config", Kind.FOLDER, 0o755))
        writer.add_late(Entry(f"database_{stamp}.sql".encode(), Kind.FILE, 0o600), [dump])
        fields = {
            "backup_name": name,
            "timestamp": stamp,
            "datetime": "2024-01-01T00:00:00",
            "database": {"success": True, "file": f"database_{stamp}.sql", "size_bytes": len(dump)},
        }
        writer.finish(json.dumps(fields).encode(), 0)
    return path


# Failures on the way


def _plain_dump(scene: Scene) -> bytes:
    return subprocess.run(
        [scene.server.bin / "pg_dump", "-v", scene.dsn], check=True, capture_output=True, env={}
    ).stdout


@pytest.mark.parametrize(
    "change",
    [
        (b"COPY public.users ", b"CREATE TABLE public.users (id int);\nCOPY public.users "),
        (b"ALTER TABLE ONLY public.reports\n    ADD CONSTRAINT", b"ALTER TABLE ONLY public.no\n    ADD CONSTRAINT"),
        (b"COPY public.templates ", b"SELECT 1/0;\nCOPY public.templates "),
        (b"FOREIGN KEY (report_id) REFERENCES public.reports(id)", b"CHECK (report_id IS NULL)"),
    ],
)  # fmt: skip
def test_a_dump_that_fails_to_load_leaves_everything_as_it_was(standing: Scene, change: tuple[bytes, bytes]) -> None:
    dump = _plain_dump(standing)
    assert change[0] in dump
    name = "radiology_backup_20240101_000000"
    _native_with_dump(standing, name, dump.replace(*change, 1))
    before = standing.seen()
    with standing.service() as service, pytest.raises(ResurgamError):
        service.restore(name, Parts(True, False, False))
    assert differences(before, standing.seen()) == []
    assert standing.leftovers() == [] and standing.databases() == set()
    assert any(" ERROR " in line for line in standing.log_lines())


def test_a_dump_with_fewer_rows_than_the_metadata_is_refused(standing: Scene) -> None:
    dump = _plain_dump(standing)
    name = "radiology_backup_20240101_000000"
    from resurgam.archive.entry import Entry, Kind

    standing.backups.mkdir(exist_ok=True)
    with (standing.backups / f"{name}.tar.gz").open("w+b") as file, ArchiveWriter(file.fileno(), name, mtime_ns=0) as w:
        w.add_late(Entry(b"database_20240101_000000.sql", Kind.FILE, 0o600), [dump])
        database = {"success": True, "tables": [["public", "reports", 1]], "file": "database_20240101_000000.sql"}
        w.finish(json.dumps({"backup_name": name, "database": database}).encode(), 0)
    with standing.service() as service:
        for act in (service.verify, lambda name: service.restore(name, Parts(True, False, False))):
            with pytest.raises(VerifyFailed, match="tables and rows"):
                act(name)


def test_a_backup_whose_database_part_had_failed_gives_back_its_files(scene: Scene) -> None:
    """The first implementation called such a thing a success."""
    before = scene.seen()
    _foreign(scene, metadata={"database": {"success": False, "error": "pg_dump not found"}})
    with scene.service() as service:
        for act in (service.verify, lambda name: service.restore(name, Parts())):
            with pytest.raises(VerifyFailed, match="holds no database"):
                act(FOREIGN)
        scene.wreck()
        service.restore(FOREIGN, Parts(False, True, True))
    after = _without_times(scene.seen())
    assert after.files == _without_times(before).files


@needs_mounts
def test_a_full_disk_while_staging_leaves_everything_as_it_was(scene: Scene) -> None:
    """The uploads lie on a small disk with room for themselves and not for a second copy."""
    (scene.app / "uploads/large.bin").write_bytes(os.urandom(3 << 20))
    with scene.service() as service:
        name = service.backup().name
    copy = scene.root / "copy"
    subprocess.run(["cp", "-a", scene.app / "uploads", copy], check=True)

    def mounts() -> None:
        mount("-t", "tmpfs", "-o", "size=5m", "none", scene.app / "uploads")
        subprocess.run(["cp", "-a", f"{copy}/.", scene.app / "uploads"], check=True)

    def deed() -> tuple[str, list[str], list[str], set[str]]:
        before = scene.seen()
        with scene.service() as service:
            try:
                service.restore(name, Parts())
                answer = "restored"
            except ResurgamError as error:
                answer = error.message
        return answer, differences(before, scene.seen()), scene.leftovers(), scene.databases()

    answer, changed, left, databases = in_child(deed, mounts=mounts)
    assert "bytes" in answer or "space" in answer.lower()
    assert changed == [] and left == [] and databases == set()


def test_a_session_that_can_not_be_ended_during_the_swap_undoes_everything(
    owned_database: Database, owner_role: Role, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the plan has long been made: files are swapped by then, and are put back."""
    monkeypatch.setattr(swap, "_ATTEMPTS", 1)  # each waits 5 s
    scene = scene_for(owned_database, tmp_path, owner_role).make()
    with scene.service() as service:
        name = service.backup().name
        scene.wreck()
        before = scene.seen()
        intruder: list[psycopg.Connection[Any]] = []
        real = service.state.journal_step

        def step(restore_id: str, what: str, data: Any = None) -> None:
            if what == "database_swap":
                intruder.append(psycopg.connect(scene.server.dsn(scene.database)))
            real(restore_id, what, data)

        monkeypatch.setattr(service.state, "journal_step", step)
        try:
            with pytest.raises(ResurgamError, match="still in use"):
                service.restore(name, Parts())
        finally:
            for connection in intruder:
                connection.close()
        assert lost(before, scene.seen()) == []
        assert scene.leftovers() == [] and scene.databases() == set()
        monkeypatch.undo()
        service.restore(name, Parts())

"""A restore that is refused, or fails on the way, leaves everything as it was."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from resurgam.archive.sinks import PlainSink
from resurgam.archive.writer import ArchiveWriter
from resurgam.demo.proof import differences
from resurgam.errors import (
    ArchiveError,
    BusyError,
    NotFoundError,
    RestoreRefused,
    ResurgamError,
    VerifyFailed,
)
from resurgam.operations.restore import Parts
from resurgam.postgres import swap
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, Role, create_owner, drop_owner
from tests.operations.made_archives import native_archive, plain_dump
from tests.operations.namespaces import in_child, mount, needs_mounts
from tests.operations.scene import Scene, lost, scene_for


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


def test_a_restore_during_a_backup_is_refused(scene: Scene) -> None:
    with scene.service() as service:
        name = service.backup().name
        with scene.service() as other, other.folder.lock(), pytest.raises(BusyError):
            service.restore(name, Parts())
        assert service.state.jobs.latest()[0].outcome == "refused"
        service.restore(name, Parts())


def test_an_unknown_name_is_not_found(scene: Scene) -> None:
    with scene.service() as service:
        service.backup()
        for name in ("radiology_backup_20010101_000000", "../etc/passwd", "", "x" * 5000, "a\0b"):
            with pytest.raises(NotFoundError):
                service.restore(name, Parts())


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


def test_a_hostile_dump_is_refused_before_anything_is_made(standing: Scene, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for line in (rf"\! touch {witness}", f"COPY public.users TO PROGRAM 'touch {witness}';", rf"\copy x to {witness}"):
        name = "radiology_backup_20240101_000000"
        native_archive(standing, name, f"{line}\n-- PostgreSQL database dump complete\n".encode())
        before = standing.seen()
        with standing.service() as service, pytest.raises(ResurgamError):
            service.restore(name, Parts())
        assert differences(before, standing.seen()) == []
        assert standing.leftovers() == [] and standing.databases() == set()
        assert not witness.exists()


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
    dump = plain_dump(standing)
    assert change[0] in dump
    name = "radiology_backup_20240101_000000"
    native_archive(standing, name, dump.replace(*change, 1))
    before = standing.seen()
    with standing.service() as service, pytest.raises(ResurgamError):
        service.restore(name, Parts(True, False, False))
    assert differences(before, standing.seen()) == []
    assert standing.leftovers() == [] and standing.databases() == set()
    assert any(" ERROR " in line for line in standing.log_lines())


def test_a_dump_with_fewer_rows_than_the_metadata_is_refused(standing: Scene) -> None:
    dump = plain_dump(standing)
    name = "radiology_backup_20240101_000000"
    from resurgam.archive.entry import Entry, Kind

    standing.backups.mkdir(exist_ok=True)
    with (
        (standing.backups / f"{name}.tar.gz").open("w+b") as file,
        ArchiveWriter(PlainSink(file.fileno()), name, mtime_ns=0) as w,
    ):
        w.add_late(Entry(b"database_20240101_000000.sql", Kind.FILE, 0o600), [dump])
        database = {"success": True, "tables": [["public", "reports", 1]], "file": "database_20240101_000000.sql"}
        w.finish(json.dumps({"backup_name": name, "database": database}).encode(), 0)
    with standing.service() as service:
        for act in (service.verify, lambda name: service.restore(name, Parts(True, False, False))):
            with pytest.raises(VerifyFailed, match="tables and rows"):
                act(name)


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

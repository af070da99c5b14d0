"""pg_dump as a process: its bytes, its end, its warnings, and that nothing of it is left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resurgam.clock import SystemClock
from resurgam.errors import ClientToolError
from resurgam.postgres.clients import ClientTools, find_clients
from resurgam.postgres.connection import Server
from resurgam.postgres.dump import Dump, dump_globals
from resurgam.postgres.snapshot import application_lock, exported_snapshot
from tests.clusters import Database, Role
from tests.operations.scene import Scene, scene_for, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = scene_for(database, tmp_path)
    made.execute("CREATE TABLE t AS SELECT generate_series(1, 50000) AS id")
    return made


@pytest.fixture
def place(scene: Scene) -> Iterator[tuple[Server, str]]:
    """The server, and a snapshot that lives as long as the test."""
    with scene.service() as service:
        server = service.server
        with application_lock(server, 1) as holder, exported_snapshot(holder, server, None) as snapshot:
            yield server, snapshot.id


def _tools(scene: Scene, pg_dump: str = "", pg_dumpall: str = "") -> ClientTools:
    return find_clients(160000, tools(scene.root / "bin", scene.server.bin, pg_dump, pg_dumpall))


def test_the_whole_dump_comes_by_in_pieces(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    phases: list[str] = []
    dump = Dump(server, _tools(scene), snapshot, clock=SystemClock(), on_phase=phases.append)
    data = b"".join(dump.blocks())
    assert data.startswith(b"--\n-- PostgreSQL database dump\n")
    assert b"-- PostgreSQL database dump complete\n" in data[-200:]
    assert data.count(b"\n") > 50_000
    assert any("public.t" in phase for phase in phases)
    assert dump.warnings == []


def test_what_came_after_the_snapshot_is_not_in_it(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    scene.execute("INSERT INTO t VALUES (-777)")
    data = b"".join(Dump(server, _tools(scene), snapshot, clock=SystemClock()).blocks())
    assert b"\n-777\n" not in data


def test_to_stop_reading_ends_the_process(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    pid_file = scene.root / "pid"
    blocks = Dump(server, _tools(scene, f"echo $$ > {pid_file}"), snapshot, clock=SystemClock()).blocks()
    next(blocks)
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}").exists()
    blocks.close()
    assert not Path(f"/proc/{pid}").exists()


def test_much_on_stderr_does_not_block_it_and_its_last_words_are_told(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    script = (
        "for i in $(seq 1 20000); do echo \"pg_dump: noise $i\" >&2; done; echo 'pg_dump: error: no more' >&2; exit 3"
    )
    with pytest.raises(ClientToolError, match="exit status 3: pg_dump: error: no more"):
        list(Dump(server, _tools(scene, script), snapshot, clock=SystemClock()).blocks())


def test_warnings_that_matter_are_kept(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    script = (
        "echo 'pg_dump: warning: could not find where to insert IF EXISTS' >&2;"
        "echo 'pg_dump: warning: there are circular foreign-key constraints on this table:' >&2"
    )
    dump = Dump(server, _tools(scene, script), snapshot, clock=SystemClock())
    list(dump.blocks())
    assert [warning for warning in dump.warnings if "IF EXISTS" in warning]
    assert not [warning for warning in dump.warnings if "circular" in warning]


def test_a_snapshot_that_is_gone(scene: Scene, place: tuple[Server, str]) -> None:
    with pytest.raises(ClientToolError, match="snapshot"):
        list(Dump(place[0], _tools(scene), "00000003-0000001B-1", clock=SystemClock()).blocks())


def test_a_silent_pg_dump_is_ended_by_the_time_out(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    started = time.monotonic()
    dump = Dump(server, _tools(scene, "exec sleep 60"), snapshot, clock=SystemClock(), timeout=0.3)
    with pytest.raises(ClientToolError, match="longer than BACKUP_DUMP_TIMEOUT"):
        list(dump.blocks())
    assert time.monotonic() - started < 5


def test_no_descriptor_stays_open(scene: Scene, place: tuple[Server, str]) -> None:
    server, snapshot = place
    found = _tools(scene)
    list(Dump(server, found, snapshot, clock=SystemClock()).blocks())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        list(Dump(server, found, snapshot, clock=SystemClock()).blocks())
        dump_globals(server, found)
    assert len(os.listdir("/proc/self/fd")) == before


def test_globals_have_the_roles_and_no_password(scene: Scene, owned_database: Database, owner_role: Role) -> None:
    """As a superuser, and as a role that may not read pg_authid."""
    for user, password in ((scene.role, scene.password), (owner_role.name, owner_role.password)):
        with scene.service(DB_NAME=owned_database.name, DB_USER=user, DB_PASSWORD=password) as service:
            text = dump_globals(service.server, _tools(scene)).decode()
        assert f"CREATE ROLE {owner_role.name};" in text
        assert "SCRAM-SHA-256" not in text and "PASSWORD '" not in text
        assert "PostgreSQL database cluster dump complete" in text

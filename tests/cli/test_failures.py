"""What goes wrong with a backup: exit 1, a message that names it, no partial file, and nothing else touched."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from resurgam.postgres.embedded import EmbeddedServer
from tests.cli.commands import RESURGAM, Done, Scene, log_in_as, wait_for, wrapped_tools
from tests.clusters import Role

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
_CAPBSET_DROP, _DAC_OVERRIDE, _DAC_READ_SEARCH = 24, 1, 2


def fails(scene: Scene, *told: str, **changes: str | None) -> Done:
    """Run a backup that must fail and leave everything as it was, though MAX_BACKUPS would prune the earlier one."""
    before = scene.archives()
    done = scene.run("backup", "--json", **{"MAX_BACKUPS": "1", **changes})
    assert_failed(scene, done, before, *told)
    return done


def assert_failed(scene: Scene, done: Done, before: dict[str, bytes], *told: str) -> None:
    assert done.code == 1, done
    for text in told:
        assert text in done.error["error"] + done.error["hint"]
    assert scene.archives() == before
    assert any(" ERROR " in line and done.error["error"][:40] in line for line in scene.log.splitlines())


def test_an_unreachable_server(backed_up: Scene) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        fails(backed_up, "refused", "DB_HOST", DB_PORT=str(free.getsockname()[1]))
    fails(backed_up, "nowhere.invalid", DB_HOST="nowhere.invalid")


def test_a_wrong_password(backed_up: Scene) -> None:
    done = fails(backed_up, "password", "DB_PASSWORD", DB_PASSWORD="wrong-Secret-1")
    assert "wrong-Secret-1" not in done.out + done.err + backed_up.log


def test_a_missing_database(backed_up: Scene) -> None:
    fails(backed_up, "not_there_db", "DB_NAME", DB_NAME="not_there_db")


def test_no_pg_dump(backed_up: Scene, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(backed_up, "pg_dump not found", "apt-get install", BACKUP_PG_BIN=str(empty))


def test_a_pg_dump_that_is_too_old(backed_up: Scene) -> None:
    tools = wrapped_tools(backed_up, "exit 1")
    tool = Path(tools["BACKUP_PG_BIN"]) / "pg_dump"
    tool.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    fails(backed_up, "too old", "9.6.24", "postgresql-client-16", **tools)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('"$PG_DUMP" "$@" 2>/dev/null | head -c 20000; kill -KILL $$', "SIGKILL"),
        (
            '"$PG_DUMP" "$@" 2>/dev/null | head -c 20000; echo \'pg_dump: error: table "reports" failed\' >&2; exit 1',
            'table "reports" failed',
        ),
        ('"$PG_DUMP" "$@" | head -c 20000', "end"),
    ],
    ids=["killed", "fails on one table", "stops early with exit 0"],
)
def test_a_pg_dump_that_fails_half_way(backed_up: Scene, script: str, told: str) -> None:
    fails(backed_up, told, **wrapped_tools(backed_up, script))


def test_a_role_that_may_not_read_one_table(backed_up: Scene, owner_role: Role) -> None:
    for statement in (
        f"GRANT USAGE ON SCHEMA public, audit TO {owner_role.name}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, audit TO {owner_role.name}",
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public, audit TO {owner_role.name}",
        f"REVOKE SELECT ON public.notifications FROM {owner_role.name}",
    ):
        backed_up.sql(statement)
    try:
        fails(backed_up, "notifications", "GRANT pg_read_all_data", **log_in_as(backed_up, owner_role))
    finally:
        backed_up.sql(f"DROP OWNED BY {owner_role.name}")


def test_an_absent_tree_that_was_configured(backed_up: Scene) -> None:
    fails(backed_up, "nothing_here", BACKUP_FILE_TREES="uploads,nothing_here")


def test_a_backup_folder_that_is_not_writable(backed_up: Scene) -> None:
    before = backed_up.archives()
    backed_up.backups.chmod(0o555)
    try:
        done = as_mere_mortal(backed_up, "backup", "--json")
        doctor = as_mere_mortal(backed_up, "doctor")
    finally:
        backed_up.backups.chmod(0o755)
    assert done.code == 1
    assert "not writable" in done.error["error"]
    assert "chown" in done.error["hint"]
    assert backed_up.archives() == before
    assert doctor.code == 1
    assert "not writable" in doctor.out


def as_mere_mortal(scene: Scene, *arguments: str) -> Done:
    """As a user for whom modes hold: root is made to obey them by giving up two capabilities."""

    def obey() -> None:
        for capability in (_DAC_OVERRIDE, _DAC_READ_SEARCH):
            ctypes.CDLL(None).prctl(_CAPBSET_DROP, capability, 0, 0, 0)

    done = subprocess.run(
        [*RESURGAM, *arguments],
        env=scene.environment(),
        preexec_fn=obey,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=False).returncode != 0:
        pytest.skip("this user may not mount a small file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_a_full_disk_fails_the_run_and_leaves_the_earlier_backup(scene: Scene) -> None:
    scene.backups.mkdir()
    with small_disk(scene.backups, "3m"):
        name = scene.backup()
        scene.settings["MAX_BACKUPS"] = "1"
        (scene.app / "uploads" / "large.bin").write_bytes(os.urandom(4 << 20))
        before = scene.archives()
        done = scene.run("backup", "--json")
        assert_failed(scene, done, before, "No space left")
        assert scene.run("verify", name).code == 0
        (scene.app / "uploads" / "large.bin").unlink()
        assert scene.run("backup").code == 0


def test_two_backups_at_once_and_the_second_is_busy(backed_up: Scene) -> None:
    started, go = backed_up.folder / "started", backed_up.folder / "go"
    tools = wrapped_tools(
        backed_up, f'touch "{started}"; while [ ! -e "{go}" ]; do sleep 0.02; done; exec "$PG_DUMP" "$@"'
    )
    first = backed_up.start("backup", "--json", MAX_BACKUPS="1", **tools)
    wait_for(started)
    second = backed_up.run("backup", "--json")
    assert (second.code, second.error["code"]) == (4, "busy")
    go.touch()
    out, _ = first.communicate(timeout=30)
    assert first.returncode == 0, out
    assert len(backed_up.archives()) == 1


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed (named in pytest's header)")
@pytest.mark.parametrize("ignored", ["", "options"], ids=["refuses our options", "ignores them"])
def test_a_pooler_in_transaction_mode(backed_up: Scene, ignored: str) -> None:
    with pgbouncer(backed_up.database.server, ignored) as port:
        fails(backed_up, "PgBouncer", "DB_HOST", DB_PORT=str(port))
        assert "PgBouncer" in backed_up.run("doctor", DB_PORT=str(port)).out


@contextmanager
def pgbouncer(server: EmbeddedServer, ignored: str) -> Iterator[int]:
    """A PgBouncer in transaction mode, run by an account that it accepts."""
    assert PGBOUNCER is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bouncer-") as place:
        config = Path(place) / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host={server.host} port={server.port} user={server.superuser} "
            f"password={server.password}\n"
            f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nauth_type=any\npool_mode=transaction\n"
            "default_pool_size=5\nunix_socket_dir=\n" + (f"ignore_startup_parameters={ignored}\n" if ignored else "")
        )
        Path(place).chmod(0o755)
        config.chmod(0o644)
        account = 65534 if os.geteuid() == 0 else None
        process = subprocess.Popen(
            [PGBOUNCER, "-q", config], user=account, group=account, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            until(lambda: answers(port))
            yield port
        finally:
            process.terminate()
            process.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_a_restore_is_refused_with_all_problems(scene: Scene, owner_role: Role) -> None:
    name = scene.backup()
    scene.sql(f"ALTER ROLE {owner_role.name} NOCREATEDB")
    shutil.rmtree(scene.app / "uploads")
    (scene.app / "uploads").write_text("a file")
    done = scene.run("restore", name, "--yes", **log_in_as(scene, owner_role))
    assert done.code == 1
    assert "CREATEDB" in done.err
    assert "uploads should be a folder" in done.err
    assert (scene.app / "uploads").read_text() == "a file"
    plan = scene.run("restore", name, "--dry-run", "--json", **log_in_as(scene, owner_role))
    assert plan.code == 1
    assert len(plan.json["problems"]) >= 2
    with psycopg.connect(scene.database.server.dsn()) as session:
        found = session.execute("SELECT count(*) FROM pg_database WHERE datname ~ '_restore_'").fetchone()
    assert found == (0,)

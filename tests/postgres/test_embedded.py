"""The throw-away server: it works, it is private, and nothing of it stays."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from resurgam.errors import ClientToolError, DatabaseError
from resurgam.postgres import embedded
from resurgam.postgres.embedded import EmbeddedServer
from tests.clusters import Database, Role

_OWNER = """
import sys, time
from resurgam.postgres.embedded import EmbeddedServer
with EmbeddedServer(fsync=False) as server:
    print(server.pid, server.socket_dir, flush=True)
    time.sleep(600)
"""


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def _wait_until_gone(pid: int, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while not (_gone(pid) and not folder.exists()):
        assert time.monotonic() < deadline, f"server {pid} or its folder {folder} is still there"
        time.sleep(0.05)


def test_each_version_serves_over_tcp_and_socket(pg: EmbeddedServer) -> None:
    with psycopg.connect(pg.dsn()) as connection:
        assert connection.info.server_version // 10000 == pg.version
    with psycopg.connect(
        host=str(pg.socket_dir), port=pg.port, user=pg.superuser, password=pg.password, dbname="postgres"
    ) as connection:
        assert connection.execute("SHOW data_checksums").fetchone() is not None


def test_no_connection_without_the_password(pg16: EmbeddedServer) -> None:
    for host in (pg16.host, str(pg16.socket_dir)):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=host, port=pg16.port, user=pg16.superuser, password="wrong", dbname="postgres")


def test_secrets_are_in_no_argument_list_and_the_data_is_private(pg16: EmbeddedServer) -> None:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert pg16.password.encode() not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
    assert stat.S_IMODE(pg16.data_dir.stat().st_mode) == 0o700
    assert not (pg16.socket_dir / "password").exists()


def test_leaving_the_context_leaves_nothing() -> None:
    with EmbeddedServer(fsync=False) as server:
        pid, folder = server.pid, server.socket_dir
        assert not _gone(pid)
    _wait_until_gone(pid, folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_owner_leaves_nothing(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, folder = owner.stdout.readline().split()
        owner.send_signal(how)
    _wait_until_gone(int(pid), Path(folder))


def test_two_servers_at_a_time() -> None:
    with EmbeddedServer(fsync=False) as one, EmbeddedServer(fsync=False) as two:
        assert one.port != two.port
        assert one.socket_dir != two.socket_dir


def test_a_setting_the_server_refuses_is_told_with_its_reason() -> None:
    server = EmbeddedServer(fsync=False, settings={"no_such_setting": "1"})
    with pytest.raises(DatabaseError, match="no_such_setting"), server:
        pass


def test_an_installation_that_is_not_there() -> None:
    with pytest.raises(ClientToolError, match=r"resurgam\[demo\]|No packaged PostgreSQL 9"):
        EmbeddedServer(major=9)
    with pytest.raises(ClientToolError, match="does not run"):
        EmbeddedServer(Path("/nonexistent"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the server to another account")
def test_programs_in_a_private_home_are_copied_once(tmp_path: Path, pg16: EmbeddedServer) -> None:
    home = tmp_path / "private"
    home.mkdir(mode=0o700)
    package = pg16.bin.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        subprocess.run(["cp", "-a", part, home], check=True)
    programs = home / package.name / pg16.bin.parent.name / "bin"
    account = embedded._unprivileged_account()
    assert account is not None
    first = embedded._reachable_copy(programs, account)
    try:
        assert not first.is_relative_to(home)
        assert embedded._reachable_copy(programs, account) == first
        assert stat.S_IMODE(first.parents[2].stat().st_mode) == 0o755
        with EmbeddedServer(programs, fsync=False) as server, psycopg.connect(server.dsn()) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
            session.execute("CREATE EXTENSION vector")
    finally:
        subprocess.run(["rm", "-rf", "--", first.parents[2]], check=True)


def test_a_copy_someone_else_could_change_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    assert embedded._is_ours_alone(folder)
    folder.chmod(0o777)
    assert not embedded._is_ours_alone(folder)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert not embedded._is_ours_alone(link)
    assert not embedded._is_ours_alone(tmp_path / "absent")


def test_an_owner_role_owns_its_database_and_is_no_superuser(
    server: EmbeddedServer, owner_role: Role, owned_database: Database
) -> None:
    with psycopg.connect(owned_database.dsn) as connection:
        row = connection.execute(
            "SELECT current_user, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        )
        assert row.fetchone() == (owner_role.name, False, True)
        connection.execute("CREATE TABLE public.mine (id int)")


def test_vector_is_there_for_packaged_versions(pg: EmbeddedServer, database: Database) -> None:
    if pg.version not in embedded.packaged_installations():
        return
    with psycopg.connect(database.dsn) as connection:
        connection.execute("CREATE EXTENSION vector")
        assert connection.execute("SELECT '[1,2]'::vector <-> '[1,4]'::vector").fetchone() == (2.0,)

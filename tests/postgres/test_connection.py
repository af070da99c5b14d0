"""Reaching the server: one clear line for each trouble, and a password that nobody else can see."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from resurgam.errors import DatabaseError
from resurgam.postgres.connection import Server, short_name
from resurgam.settings import Database as Place
from resurgam.settings import Secret
from tests.clusters import Database
from tests.operations.scene import Scene, scene_for, tools


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    made = scene_for(database, tmp_path, BACKUP_CONFIG_FILES="none", BACKUP_FILE_TREES="none")
    made.app.mkdir()
    made.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS id")
    return made


def _refused(scene: Scene, match: str, **more: str) -> DatabaseError:
    with scene.service(**more) as service, pytest.raises(DatabaseError, match=match) as caught:
        service.backup()
    assert "\n" not in caught.value.message
    assert scene.password not in caught.value.message + caught.value.hint
    assert scene.archives() == []
    return caught.value


def test_a_wrong_password(scene: Scene) -> None:
    error = _refused(scene, "refused the password", DB_PASSWORD="wrong-horse")
    assert "wrong-horse" not in error.message and "DB_PASSWORD" in error.hint


def test_no_password(scene: Scene) -> None:
    _refused(scene, "wants a password and none is set", DB_PASSWORD="", PGPASSFILE="/nonexistent")


def test_nobody_answers(scene: Scene) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    _refused(scene, "Nothing answers", DB_PORT=str(port))


def test_a_server_that_says_nothing(scene: Scene) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        _refused(scene, "did not answer in time", DB_PORT=str(silent.getsockname()[1]), BACKUP_CONNECT_TIMEOUT="2s")
        assert time.monotonic() - started < 8


def test_an_unknown_host(scene: Scene) -> None:
    _refused(scene, "host .* is unknown", DB_HOST="no-such-host.invalid")


def test_a_missing_database_and_a_missing_role(scene: Scene) -> None:
    _refused(scene, "not for nothing_here", DB_NAME="nothing_here")
    _refused(scene, "refused the password|does not exist", DB_USER="nobody_here")


def test_a_database_that_accepts_nobody(scene: Scene) -> None:
    scene.administer(f"ALTER DATABASE {scene.database} ALLOW_CONNECTIONS false")
    _refused(scene, "not currently accepting connections")


def test_the_password_is_in_no_argument_and_no_environment(scene: Scene) -> None:
    """What /proc shows of pg_dump to every process of the same user, and of its arguments to everybody."""
    seen = scene.root / "seen"
    record = f"cat /proc/self/cmdline /proc/self/environ > {seen}.$$.child; tr '\\0' '\\n' < /proc/$$/cmdline >> {seen}.$$; tr '\\0' '\\n' < /proc/$$/environ >> {seen}.$$"  # noqa: E501
    folder = tools(scene.root / "bin", scene.server.bin, record, record)
    url = f"postgresql://x:{scene.password}@elsewhere/db"
    with scene.service(BACKUP_PG_BIN=str(folder), PGPASSWORD=scene.password, DATABASE_URL=url) as service:
        service.backup()
        assert scene.password not in repr(service.settings) + repr(service.server)
    found = list(scene.root.glob("seen.*"))
    assert len(found) >= 4
    text = b"".join(path.read_bytes() for path in found)
    assert b"--snapshot=" in text and b"PGPASSFILE=" in text
    assert scene.password.encode() not in text
    for path in scene.root.rglob("*"):
        if path.is_file():
            assert scene.password.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("password", ["with space", "co:lon", "back\\slash", "quo'te\"s", "ünïcode", "tab\tand#hash"])
def test_odd_passwords_work_for_us_and_for_the_tools(scene: Scene, password: str) -> None:
    from psycopg import sql

    scene.administer("DROP ROLE IF EXISTS odd_password")
    literal = sql.Literal(password).as_string(None)
    scene.administer(f"CREATE ROLE odd_password LOGIN SUPERUSER PASSWORD {literal}")
    try:
        with scene.service(DB_USER="odd_password", DB_PASSWORD=password) as service:
            service.backup()
    finally:
        scene.administer("DROP ROLE odd_password")


def test_the_pinned_settings_hold_whatever_the_environment_says(scene: Scene) -> None:
    more = {"PGTZ": "Asia/Tokyo", "PGDATESTYLE": "German", "PGOPTIONS": "-c extra_float_digits=-5"}
    scene.execute(
        f"ALTER DATABASE {scene.database} SET bytea_output = 'escape'",
        f"ALTER DATABASE {scene.database} SET \"TimeZone\" = 'America/New_York'",
        "CREATE TABLE moments (at timestamptz, raw bytea, part float8, span interval)",
        "INSERT INTO moments VALUES ('2025-01-04 14:30:22+00', '\\xdeadbeef', 0.1::float8 + 0.2, '1 day 2 hours')",
    )
    with scene.service(**more) as service:
        archive = Path(service.backup().archive_path)
    dump = subprocess.run(["tar", "xzOf", archive, "--wildcards", "*/database_*"], check=True, capture_output=True)
    assert b"2025-01-04 14:30:22+00\t\\\\xdeadbeef\t0.30000000000000004\t1 day 02:00:00\n" in dump.stdout


# PgBouncer

_BOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/sbin:/bin")


@contextmanager
def _bouncer(scene: Scene, ignored: str) -> Iterator[int]:
    folder = scene.root / "bouncer"
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "users").write_text(f'"{scene.role}" "{scene.password}"\n')
    (folder / "conf").write_text(
        f"[databases]\n* = host={scene.server.host} port={scene.server.port}\n[pgbouncer]\n"
        f"listen_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\nauth_type=plain\nauth_file={folder}/users\n"
        f"pool_mode=transaction\nlogfile={folder}/log\npidfile={folder}/pid\nignore_startup_parameters={ignored}\n"
    )
    for path in (*scene.root.parents, scene.root, folder):
        if str(path).startswith("/tmp/") and path.owner() != "nobody":
            path.chmod(path.stat().st_mode | 0o055)
    shutil.chown(folder, "nobody") if Path("/").stat().st_uid == 0 and _is_root() else None
    for path in folder.iterdir():
        path.chmod(0o644)
    process = subprocess.Popen(
        [str(_BOUNCER), "-q", str(folder / "conf")],
        user="nobody" if _is_root() else None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            log = folder / "log"
            assert time.monotonic() < deadline and process.poll() is None, log.read_text() if log.exists() else ""
            time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait()


def _is_root() -> bool:
    import os

    return os.geteuid() == 0


@pytest.mark.skipif(_BOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)")
@pytest.mark.parametrize("ignored", ["", "extra_float_digits,options"])
def test_a_pooler_in_transaction_mode_is_told_and_refused(scene: Scene, ignored: str) -> None:
    with _bouncer(scene, ignored) as port:
        error = _refused(scene, "connection pooler", DB_PORT=str(port))
        assert "PostgreSQL server itself" in error.hint


def test_names_are_cut_before_63_bytes_and_keep_their_suffix() -> None:
    for base in ("short", "x" * 70, "ü" * 40, "日本" * 20):
        name = short_name(base, "_restore_20251122120000_abcdef")
        assert len(name.encode()) <= 63 and name.endswith("_restore_20251122120000_abcdef")
        assert base.startswith(name.removesuffix("_restore_20251122120000_abcdef"))


def test_the_password_is_not_in_the_conninfo() -> None:
    server = Server(Place("h", 1, "d", "u", Secret("hidden"), (("sslmode", "prefer"),)))
    assert "hidden" not in server.conninfo() + repr(server) + server.describe()
    assert "sslmode=prefer" in server.conninfo()


def test_options_of_a_database_url_are_kept_and_the_pinned_ones_win(scene: Scene) -> None:
    """A command line's later `-c` wins, so ours come last; for pg_dump as for our own sessions."""
    options = ("options", "-c TimeZone=Asia/Tokyo -c work_mem=7MB")
    with scene.service() as service:
        place = service.settings.database
        server = Server(replace(place, options=(*place.options, options)))
        with server.connect() as session:
            told = session.execute("SELECT current_setting('TimeZone'), current_setting('work_mem')").fetchone()
        assert told == ("UTC", "7MB")
        with server.tool_access() as access:
            assert "TimeZone=UTC" in access.conninfo.split("Asia/Tokyo", 1)[1]

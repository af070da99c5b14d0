"""The swap of two databases: nobody sees anything but the old one or the new one, whatever hammers on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from resurgam.clock import SystemClock
from resurgam.errors import RestoreFailed
from resurgam.postgres import swap
from resurgam.postgres.connection import Server
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.swap import database_oid, maintenance_server, swap_databases
from resurgam.settings import Database as Place
from resurgam.settings import Secret
from tests import clusters
from tests.clusters import Role


class Pair:
    """A live database whose table holds 'old', a fresh one whose table holds 'new'."""

    def __init__(self, server: EmbeddedServer, owner: Role | None = None) -> None:
        self.server = server
        self.live = clusters.create_database(server, owner).name
        self.fresh, self.previous = f"{self.live}_restore_1", f"{self.live}_previous_1"
        extra = f" OWNER {owner.name}" if owner else ""
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute(f"CREATE DATABASE {self.fresh} TEMPLATE template0{extra}".encode())
        for name, word in ((self.live, "old"), (self.fresh, "new")):
            with psycopg.connect(server.dsn(name)) as session:
                session.execute(f"CREATE TABLE which AS SELECT '{word}'::text AS word".encode())
        role, password = (owner.name, owner.password) if owner else (server.superuser, server.password)
        self.place = Server(Place(server.host, server.port, self.live, role, Secret(password)), 10)

    def which(self, name: str) -> str:
        with psycopg.connect(self.server.dsn(name)) as session:
            row = session.execute("SELECT word FROM which").fetchone()
        assert row is not None
        return str(row[0])

    def swap(self) -> float:
        return swap_databases(maintenance_server(self.place), self.live, self.fresh, self.previous, SystemClock())

    def names(self) -> set[str]:
        with psycopg.connect(self.server.dsn()) as session:
            return {str(n) for (n,) in session.execute("SELECT datname FROM pg_database")} & {
                self.live,
                self.fresh,
                self.previous,
            }


@pytest.fixture
def pair(server: EmbeddedServer) -> Iterator[Pair]:
    made = Pair(server)
    yield made
    clusters.drop_database(server, made.live)


def test_the_new_one_takes_the_name_and_the_old_one_is_kept(pg: EmbeddedServer, pair: Pair) -> None:
    seconds = pair.swap()
    assert 0 <= seconds < 5
    assert pair.which(pair.live) == "new" and pair.which(pair.previous) == "old"
    assert pair.names() == {pair.live, pair.previous}


def test_clients_that_hammer_on_it_see_the_old_or_the_new_and_are_soon_back(pg: EmbeddedServer, pair: Pair) -> None:
    stop = threading.Event()
    seen: list[tuple[float, str]] = []

    def hammer() -> None:
        while not stop.is_set():
            try:
                with psycopg.connect(pair.server.dsn(pair.live)) as session:
                    while not stop.is_set():
                        row = session.execute("SELECT word FROM which").fetchone()
                        assert row is not None
                        seen.append((time.monotonic(), str(row[0])))
            except psycopg.OperationalError:
                continue

    threads = [threading.Thread(target=hammer) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.3)
        pair.swap()
        time.sleep(0.3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    seen.sort()
    words = [word for _, word in seen]
    assert set(words) == {"old", "new"}
    last_old = max(at for at, word in seen if word == "old")
    first_new = min(at for at, word in seen if word == "new")
    assert first_new - last_old < 3
    assert pair.which(pair.live) == "new" and pair.which(pair.previous) == "old"


def test_a_missing_live_database_is_just_made(pair: Pair) -> None:
    clusters_live = pair.live
    with psycopg.connect(pair.server.dsn(), autocommit=True) as session:
        session.execute(f"DROP DATABASE {clusters_live}".encode())
    pair.swap()
    assert pair.names() == {pair.live} and pair.which(pair.live) == "new"


def test_sessions_in_the_fresh_one_are_ended_too(pair: Pair) -> None:
    with closing(psycopg.connect(pair.server.dsn(pair.fresh))) as curious:
        curious.execute("SELECT 1")
        pair.swap()
        with pytest.raises(psycopg.OperationalError):
            curious.execute("SELECT 1")
    assert pair.which(pair.live) == "new"


def test_a_session_that_may_not_be_ended_leaves_every_name(
    server: EmbeddedServer, owner_role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "_ATTEMPTS", 1)  # each waits 5 s
    pair = Pair(server, owner_role)
    try:
        with closing(psycopg.connect(server.dsn(pair.live))) as intruder:
            intruder.execute("SELECT 1")
            with pytest.raises(RestoreFailed, match="still in use"):
                pair.swap()
            assert intruder.execute("SELECT word FROM which").fetchone() == ("old",)
        assert pair.names() == {pair.live, pair.fresh}
        pair.swap()
        assert pair.which(pair.live) == "new"
    finally:
        clusters.drop_database(server, pair.live)


def test_a_prepared_transaction_leaves_every_name(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swap, "_ATTEMPTS", 1)
    with psycopg.connect(pair.server.dsn(pair.live), autocommit=True) as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO which VALUES ('held')")
        session.execute("PREPARE TRANSACTION 'held'")
    try:
        with pytest.raises(RestoreFailed):
            pair.swap()
        assert pair.names() == {pair.live, pair.fresh}
    finally:
        with psycopg.connect(pair.server.dsn(pair.live), autocommit=True) as session:
            session.execute("ROLLBACK PREPARED 'held'")


def test_a_name_that_is_taken_leaves_every_name(pair: Pair) -> None:
    with psycopg.connect(pair.server.dsn(), autocommit=True) as session:
        session.execute(f"CREATE DATABASE {pair.previous} TEMPLATE template0".encode())
    with pytest.raises(RestoreFailed, match="already exists"):
        pair.swap()
    assert pair.names() == {pair.live, pair.fresh, pair.previous}
    assert pair.which(pair.live) == "old"


def test_a_fresh_one_that_is_gone_leaves_the_live_one(pair: Pair) -> None:
    with psycopg.connect(pair.server.dsn(), autocommit=True) as session:
        session.execute(f"DROP DATABASE {pair.fresh}".encode())
    with pytest.raises(RestoreFailed, match="does not exist"):
        pair.swap()
    assert pair.names() == {pair.live} and pair.which(pair.live) == "old"


def test_the_connection_breaks_in_the_middle(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The renamer's session is ended between the two renames: the transaction is void, every name as it was."""
    real = swap._rename
    count = 0

    def rename(old: str, new: str) -> object:
        nonlocal count
        count += 1
        if count == 2:
            with psycopg.connect(pair.server.dsn(), autocommit=True) as session:
                session.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%RENAME%'"
                    " AND pid <> pg_backend_pid()"
                )
        return real(old, new)

    monkeypatch.setattr(swap, "_rename", rename)
    with pytest.raises(RestoreFailed):
        pair.swap()
    assert pair.names() == {pair.live, pair.fresh} and pair.which(pair.live) == "old"


def test_a_rename_keeps_the_oid(pair: Pair) -> None:
    with closing(psycopg.connect(pair.server.dsn(), autocommit=True)) as session:
        fresh = database_oid(session, pair.fresh)
        pair.swap()
        assert database_oid(session, pair.live) == fresh
        assert database_oid(session, pair.fresh) is None

"""What the hammering clients call an outage is one, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from tests.clusters import Database

_HAMMER = Path(__file__).parents[2] / "bench" / "hammer.py"


def test_clients_tell_of_the_time_without_their_database_and_of_no_other(database: Database) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as session:
        session.execute("CREATE TABLE public.users (id int)")
    server = database.server
    environment = os.environ | {
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": server.superuser,
        "PGPASSWORD": server.password,
        "PGDATABASE": database.name,
    }
    with (
        psycopg.connect(server.dsn("postgres"), autocommit=True) as other,
        subprocess.Popen(
            [sys.executable, _HAMMER, "3"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as clients,
    ):
        assert clients.stdout is not None
        assert clients.stdout.readline() == "ready\n"
        started = time.monotonic()
        other.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false'.encode())
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database.name,))
        time.sleep(0.5)
        other.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true'.encode())
        ended = time.monotonic()
        time.sleep(1)
        spans = json.loads(clients.communicate()[0])
    assert len(spans) == 3
    for client in spans:
        assert len(client) == 1
        begin, end = client[0]
        assert end - begin >= 0.5
        assert started - 0.5 < begin < ended < end + 0.5

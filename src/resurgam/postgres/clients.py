"""Finds the client tools that fit a server.

pg_dump refuses a server newer than itself, and from 17 on writes settings that older servers do not know: so the
same major version is best, and a newer one will do.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from resurgam.errors import ClientToolError

_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True, slots=True)
class ClientTools:
    """pg_dump and pg_dumpall of one version; `version` as the tool prints it, `major` its first number."""

    pg_dump: Path
    pg_dumpall: Path
    major: int
    version: str


def find_clients(server_version: int, folder: Path | None = None, path: str | None = None) -> ClientTools:
    """The tools for a server (`server_version` as libpq numbers it: 160004 is 16.4).

    Only `folder` is looked into if it is given; `path` is a PATH other than the process's. ClientToolError says what
    is there and what to install.
    """
    major = server_version // 10_000
    found = list_clients(folder, path)
    fitting = sorted((tools for tools in found if tools.major >= major), key=lambda tools: tools.major)
    if fitting:
        return fitting[0]
    place = str(folder) if folder else "PATH or the usual folders"
    hint = (
        f"Install the client of PostgreSQL {major} or newer: apt-get update && apt-get install -y "
        f"postgresql-client-{major} (or postgresql-client, if that is {major} or newer)."
    )
    if not found:
        raise ClientToolError(f"pg_dump not found in {place}, with pg_dumpall beside it; nothing was backed up.", hint)
    versions = ", ".join(sorted({tools.version for tools in found}))
    raise ClientToolError(
        f"pg_dump is too old: the server is version {major}, the newest pg_dump found is of {versions}; "
        "nothing was backed up.",
        hint,
    )


def list_clients(folder: Path | None = None, path: str | None = None) -> tuple[ClientTools, ...]:
    """Every usable pair of pg_dump and pg_dumpall, those on PATH first."""
    if folder is not None:
        folders = [folder]
    else:
        on_path = shutil.which("pg_dump", path=path)
        folders = [Path(on_path).parent] if on_path else []
        for pattern in _PLACES:
            folders += sorted(Path("/").glob(pattern[1:]), reverse=True)
    return tuple(tools for place in dict.fromkeys(folders) if (tools := _tools_in(place)) is not None)


def _tools_in(folder: Path) -> ClientTools | None:
    pg_dump, pg_dumpall = folder / "pg_dump", folder / "pg_dumpall"
    if not pg_dumpall.exists():
        return None
    try:
        answer = subprocess.run([pg_dump, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None  # there, but for another machine, or broken: as good as not there
    match = re.search(r"\) (\d+(?:\.\d+|beta\d+|rc\d+|devel)*)", answer)
    return ClientTools(pg_dump, pg_dumpall, int(re.split(r"\D", match[1])[0]), match[1]) if match else None

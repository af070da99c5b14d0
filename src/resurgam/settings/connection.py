"""Where the database is: DB_*, then PG*, then DATABASE_URL, then the manual's defaults, value by value.

Where PGSERVICE is set, only DB_* is taken and everything else is left to the service file, as libpq itself
ranks a service above PG* variables. A password that stands nowhere is None, so that .pgpass works. Other PG*
variables (PGSSLMODE, PGPASSFILE, …) reach libpq by the process's environment alone; in a .env they would be
silently without effect, so that is a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from resurgam.settings.layers import Layer, Reader
from resurgam.settings.model import Database
from resurgam.settings.secret import Secret
from resurgam.settings.table import SecretVariable
from resurgam.settings.variables import (
    DATABASE_URL,
    DB_HOST,
    DB_NAME,
    DB_PASSWORD,
    DB_PORT,
    DB_USER,
    PG_FALLBACK,
    PGPASSWORD,
)

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?:(?P<login>[^/?]*)@)?"
    r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^/?@:,\[\]]*)(?::(?P<port>[0-9]*))?"
    r"(?:/(?P<name>[^?/]*))?"
    r"(?:\?(?P<query>.*))?"
)
# Keywords of libpq 18 that say how to reach and to trust a server; the rest (encoding, application name,
# time-outs) are ours to choose.
_OPTIONS = frozenset(
    {
        "channel_binding", "gssdelegation", "gssencmode", "gsslib", "hostaddr", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname",
        "load_balance_hosts", "max_protocol_version", "min_protocol_version", "options",
        "passfile", "require_auth", "requirepeer", "ssl_max_protocol_version",
        "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression", "sslcrl",
        "sslcrldir", "sslkey", "sslmode", "sslnegotiation", "sslrootcert", "sslsni",
        "target_session_attrs", "tcp_user_timeout",
    }
)  # fmt: skip
_OURS = frozenset({"application_name", "fallback_application_name", "client_encoding", "connect_timeout"})


@dataclass(frozen=True, slots=True)
class _Url:
    host: str | None = None
    port: int | None = None
    name: str | None = None
    user: str | None = None
    password: Secret | None = None
    options: tuple[tuple[str, str], ...] = ()


def read_connection(reader: Reader, environment: Layer) -> Database:
    """The database's place; problems and warnings go to the reader.

    `environment` is the layer that libpq sees as well.
    """
    _warn_unseen(reader, environment)
    password = reader.secret(DB_PASSWORD)
    host, port = reader.optional(DB_HOST), reader.optional(DB_PORT)
    name, user = reader.optional(DB_NAME), reader.optional(DB_USER)
    if "PGSERVICE" in environment.values:
        return Database(host=host, port=port, name=name, user=user, password=password)
    host = host or reader.optional(DB_HOST, PG_FALLBACK["DB_HOST"])
    port = port or reader.optional(DB_PORT, PG_FALLBACK["DB_PORT"])
    name = name or reader.optional(DB_NAME, PG_FALLBACK["DB_NAME"])
    user = user or reader.optional(DB_USER, PG_FALLBACK["DB_USER"])
    password = password or reader.secret(PGPASSWORD)
    complete = bool(host and name and user)
    url = _Url() if complete and password else _read_url(reader, needed=not complete)
    # `hostaddr` says where the URL's own host is.
    overruled = {"hostaddr"} if host else set()
    overruled |= {key for key, _ in url.options if f"PG{key.replace('_', '').upper()}" in environment.values}
    return Database(
        host=host or url.host or ("" if "PGHOSTADDR" in environment.values else DB_HOST.default) or None,
        port=port or url.port or int(DB_PORT.default),
        name=name or url.name or DB_NAME.default,
        user=user or url.user or DB_USER.default,
        password=password or url.password,
        options=tuple(item for item in url.options if item[0] not in overruled),
    )


def _warn_unseen(reader: Reader, environment: Layer) -> None:
    read = {*PG_FALLBACK.values(), "PGPASSWORD", "PGPASSWORD_FILE", "PGDATA"}
    for layer in reader.layers:
        if layer is environment:
            continue
        for name in sorted(layer.values):
            # PGADMIN_… and PGBOUNCER_… belong to other programs; libpq's own have no underscore but these.
            own = re.fullmatch(r"PG[A-Z]+|PGCONNECT_TIMEOUT|PGSSL(MIN|MAX)PROTOCOLVERSION", name)
            if own and name not in read and name not in environment.values:
                reader.warnings.append(
                    f"{name} in {layer.label} has no effect: libpq looks into the process's environment."
                )


def _read_url(reader: Reader, *, needed: bool) -> _Url:
    secret = reader.secret(DATABASE_URL)
    # An application may keep the URL of another kind of database there; where it can add no more than a password,
    # that is not judged.
    if secret is None or not (needed or secret.reveal().lower().startswith("postgres")):
        return _Url()
    problems: list[str] = []
    url = _parse_url(secret.reveal().strip(), problems, reader.warnings)
    for why in problems:
        reader.complain(DATABASE_URL.name, why)
    return url


def read_place(reader: Reader, variable: SecretVariable) -> Database | None:
    """The place that another secret URL names; None where it is not set. It must say everything itself."""
    secret = reader.secret(variable)
    if secret is None:
        return None
    problems: list[str] = []
    url = _parse_url(secret.reveal().strip(), problems, reader.warnings)
    if not problems and not url.host:
        problems.append("must name a host")
    for why in problems:
        reader.complain(variable.name, why)
    return Database(
        url.host, url.port or int(DB_PORT.default), url.name or "postgres", url.user, url.password, url.options
    )


def _parse_url(text: str, problems: list[str], warnings: list[str]) -> _Url:
    """The URL's parts; no message quotes any of it but its scheme and the names of its parameters."""
    match = _URL.fullmatch(text)
    if match is None:
        problems.append("is not postgresql://USER:PASSWORD@HOST:PORT/NAME with one host and `/?#` as %2F, %3F, %23")
        return _Url()
    if match["scheme"].lower().partition("+")[0] not in ("postgresql", "postgres"):
        problems.append(f"has the scheme {match['scheme']}, not postgresql; DB_HOST and so on can replace it")
        return _Url()
    user, _, password = (match["login"] or "").partition(":")
    parts = {
        "host": (match["host"] or "").strip("[]"),
        "port": match["port"] or "",
        "dbname": match["name"] or "",
        "user": user,
        "password": password,
    }
    options: dict[str, str] = {}
    for pair in filter(None, (match["query"] or "").split("&")):
        key, _, value = pair.partition("=")
        _take_parameter(unquote(key), value, parts, options, problems, warnings)
    try:
        plain = {key: unquote(value, errors="strict") for key, value in parts.items()}
        chosen = tuple((key, unquote(value, errors="strict")) for key, value in sorted(options.items()))
    except UnicodeDecodeError:
        problems.append("has a %-escape that is not UTF-8")
        return _Url()
    try:
        port = DB_PORT.parse(plain["port"]) if plain["port"] else None
    except ValueError:
        problems.append("must have a port from 1 to 65535")
        port = None
    if any("," in plain[key] for key in ("host", "port")):
        problems.append("must name one host; for several, use a pg_service.conf and PGSERVICE")
    return _Url(
        host=plain["host"] or None,
        port=port,
        name=plain["dbname"] or None,
        user=plain["user"] or None,
        password=Secret(plain["password"]) if plain["password"] else None,
        options=chosen,
    )


def _take_parameter(
    key: str,
    value: str,
    parts: dict[str, str],
    options: dict[str, str],
    problems: list[str],
    warnings: list[str],
) -> None:
    if key in parts:
        parts[key] = value
    elif key == "ssl":
        # asyncpg's and JDBC's word for sslmode, where true means require.
        options.setdefault("sslmode", "require" if value.lower() in ("true", "1") else value)
    elif key in _OPTIONS:
        options[key] = value
    elif key == "sslpassword":
        problems.append("holds sslpassword, which is not supported: use a key without a pass phrase")
    elif key not in _OURS:
        warnings.append(f"DATABASE_URL has a parameter that is not libpq's and was ignored: {key!r:.40}.")

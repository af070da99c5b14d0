"""What belongs to a database and stands in no dump: owner, encoding, locale, grants, settings, comment.

`read_properties` records it with a backup, `create_database` and `apply_properties` give it back. Everything is
plain JSON in the metadata, and hostile when it comes back from there: values go to the server as parameters or
quoted identifiers only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import psycopg
from psycopg import sql

from resurgam.errors import DamagedError

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One ALTER DATABASE (or ALTER ROLE … IN DATABASE, if `role` is not empty) … SET."""

    role: str
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Grant:
    """One privilege on the database; an empty grantee is PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, slots=True)
class Properties:
    """The database's own properties. `provider` is `libc`, `icu` or `builtin`; `grants` None means the default."""

    owner: str
    encoding: str
    provider: str
    collate: str
    ctype: str
    locale: str | None
    icu_rules: str | None
    tablespace: str
    connection_limit: int
    allows_connections: bool
    is_template: bool
    comment: str | None
    grants: tuple[Grant, ...] | None
    settings: tuple[Setting, ...]
    labels: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Any) -> Properties:
        """DamagedError if the metadata holds anything but what `to_json` gave."""
        try:
            values = {field.name: raw[field.name] for field in fields(cls)}
            grants = values["grants"]
            values["grants"] = None if grants is None else tuple(Grant(**grant) for grant in grants)
            values["settings"] = tuple(Setting(**setting) for setting in values["settings"])
            values["labels"] = tuple((provider, label) for provider, label in values["labels"])
            properties = cls(**values)
        except (KeyError, TypeError, ValueError):
            raise DamagedError(_MALFORMED) from None
        if not properties._well_typed():
            raise DamagedError(_MALFORMED)
        return properties

    def _well_typed(self) -> bool:
        """Whether every value has its declared type: what is not text must not get into a statement."""
        texts: list[object] = [self.owner, self.encoding, self.provider, self.collate, self.ctype, self.tablespace]
        texts += [text for text in (self.locale, self.icu_rules, self.comment) if text is not None]
        for grant in self.grants or ():
            texts += [grant.grantee, grant.privilege]
        for setting in self.settings:
            texts += [setting.role, setting.name, setting.value]
        for label in self.labels:
            texts += label
        flags = [self.allows_connections, self.is_template, *(grant.grantable for grant in self.grants or ())]
        return (
            # NUL ends a string on its way to the server.
            all(isinstance(text, str) and "\0" not in text for text in texts)
            and all(type(flag) is bool for flag in flags)
            and type(self.connection_limit) is int
            and self.provider in _PROVIDERS.values()
        )


# Lists of names keep their quotes only by FROM CURRENT: a literal would be one name (GUC_LIST_QUOTE). The others take a
# literal, since to set `role` or a time-out first would act on the statement that follows.
NAME_LISTS = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"})
_MALFORMED = "The database's properties in the backup's metadata are malformed."
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}
# The column with the ICU or builtin locale was renamed in 17, and rules came with 16.
_LOCALE_COLUMN = {14: "NULL", 15: "daticulocale", 16: "daticulocale"}


def read_properties(connection: Connection, name: str | None = None) -> Properties:
    """The properties of a database; of the one that the session is connected to if it is not named."""
    major = connection.info.server_version // 10_000
    locale = _LOCALE_COLUMN.get(major, "datlocale" if major > 14 else "NULL")
    rules = "daticurules" if major >= 16 else "NULL"
    provider = "datlocprovider" if major >= 15 else "'c'"
    row = connection.execute(
        f"""
        SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), {provider}::text, datcollate::text,
               datctype::text, {locale}::text, {rules}::text, spcname::text, datconnlimit, datallowconn, datistemplate,
               shobj_description(d.oid, 'pg_database'), datacl IS NULL, d.oid
        FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace
        WHERE datname = coalesce(%s, current_database())
        """,
        (name,),
    ).fetchone()
    if row is None:
        raise DamagedError("The server does not list the database whose properties were asked for.")
    names = [field.name for field in fields(Properties)][: len(row) - 2]
    plain = dict(zip(names, row, strict=False))
    plain["provider"] = _PROVIDERS.get(plain["provider"], "libc")
    default_grants, oid = row[-2:]
    return Properties(
        **plain,
        grants=None if default_grants else _read_grants(connection, oid),
        settings=_read_settings(connection, oid),
        labels=tuple(
            connection.execute(
                "SELECT provider, label FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass AND objoid = %s",
                (oid,),
            ).fetchall()
        ),
    )


def _read_grants(connection: Connection, oid: int) -> tuple[Grant, ...]:
    rows = connection.execute(
        """
        SELECT CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable
        FROM pg_database, aclexplode(datacl) WHERE pg_database.oid = %s ORDER BY 1, 2
        """,
        (oid,),
    )
    return tuple(Grant(*row) for row in rows)


def _read_settings(connection: Connection, oid: int) -> tuple[Setting, ...]:
    rows = connection.execute(
        """
        SELECT coalesce(rolname::text, ''), split_part(entry, '=', 1), substr(entry, strpos(entry, '=') + 1)
        FROM pg_db_role_setting LEFT JOIN pg_roles ON pg_roles.oid = setrole, unnest(setconfig) AS entry
        WHERE setdatabase = %s ORDER BY 1, 2
        """,
        (oid,),
    )
    return tuple(Setting(*row) for row in rows)


def create_database(connection: Connection, name: str, properties: Properties | None, owner: str | None = None) -> None:
    """Create an empty database from template0, like the one that was backed up (None: the server's defaults).

    It belongs to `owner`, or to us.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
    if properties is not None:
        for option, value in _creation_options(properties, connection.info.server_version // 10_000):
            statement += sql.SQL(f" {option} {{}}").format(value)
    if owner is not None:
        statement += sql.SQL(" OWNER {}").format(sql.Identifier(owner))
    connection.execute(statement)


def _creation_options(properties: Properties, major: int) -> list[tuple[str, sql.Composable]]:
    options: list[tuple[str, sql.Composable]] = [
        ("ENCODING", sql.Literal(properties.encoding)),
        ("LC_COLLATE", sql.Literal(properties.collate)),
        ("LC_CTYPE", sql.Literal(properties.ctype)),
    ]
    if major >= 15 and properties.provider in ("libc", "icu", "builtin"):
        options.append(("LOCALE_PROVIDER", sql.SQL(properties.provider)))
        if properties.locale and properties.provider != "libc":
            word = "ICU_LOCALE" if properties.provider == "icu" else "BUILTIN_LOCALE"
            options.append((word, sql.Literal(properties.locale)))
        if properties.icu_rules and major >= 16:
            options.append(("ICU_RULES", sql.Literal(properties.icu_rules)))
    if properties.tablespace != "pg_default":
        options.append(("TABLESPACE", sql.Identifier(properties.tablespace)))
    return options


def apply_properties(connection: Connection, name: str, properties: Properties) -> tuple[str, ...]:
    """Give a database the recorded grants, settings, comment, labels, limits, and last its owner.

    Answers a sentence for each that the server refused (a role that is gone, a right that we lack); these do not
    endanger the data, so they do not fail a restore, but they are told.
    """
    refused = []
    for what, steps in _property_statements(name, properties):
        try:
            with connection.transaction():
                for statement, values in steps:
                    connection.execute(statement, values or None)
        except psycopg.Error as error:
            refused.append(f"Not given back to the database: {what} ({error.diag.message_primary or error}).")
    return tuple(refused)


Step = tuple[sql.SQL | sql.Composed, tuple[str, ...]]


def _property_statements(name: str, properties: Properties) -> list[tuple[str, list[Step]]]:
    database = sql.Identifier(name)
    found: list[tuple[str, list[Step]]] = []

    def add(what: str, *steps: Step) -> None:
        found.append((what, list(steps)))

    for setting in properties.settings:
        target: sql.Composed = sql.SQL("DATABASE {}").format(database)
        if setting.role:
            target = sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(setting.role), database)
        parts = sql.SQL(".").join(sql.Identifier(part) for part in setting.name.split("."))
        what = f"the setting {setting.name}" + (f" of the role {setting.role}" if setting.role else "")
        if setting.name.lower() in NAME_LISTS:
            exact = sql.SQL("SELECT set_config(%s, %s, true)"), (setting.name, setting.value)
            add(what, exact, (sql.SQL("ALTER {} SET {} FROM CURRENT").format(target, parts), ()))
        else:
            add(what, (sql.SQL("ALTER {} SET {} TO {}").format(target, parts, setting.value), ()))
    if properties.comment is not None:
        add("its comment", (sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, properties.comment), ()))
    for provider, label in properties.labels:
        words = sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}")
        add(f"its label of {provider}", (words.format(sql.Identifier(provider), database, label), ()))
    if properties.is_template:
        add("that it is a template", (sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(database), ()))
    if properties.connection_limit != -1:
        words = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
        add("its connection limit", (words.format(database, properties.connection_limit), ()))
    if properties.grants is not None:
        everyone = sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)
        add("its grants to PUBLIC", (everyone, ()))
        for grant in properties.grants:
            add(f"the grant of {grant.privilege} to {grant.grantee or 'PUBLIC'}", (_grant(database, grant), ()))
    owner = sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(properties.owner))
    add(f"its owner {properties.owner}", (owner, ()))
    return found


def _grant(database: sql.Identifier, grant: Grant) -> sql.Composed:
    # A privilege is a keyword: only those that a database has may pass as one.
    privilege = grant.privilege if grant.privilege in ("CREATE", "CONNECT", "TEMPORARY") else "CONNECT"
    grantee = sql.Identifier(grant.grantee) if grant.grantee else sql.SQL("PUBLIC")
    option = sql.SQL(" WITH GRANT OPTION" if grant.grantable and grant.grantee else "")
    return sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(sql.SQL(privilege), database, grantee, option)

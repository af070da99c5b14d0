"""What of a script a given server and role can take, decided before anything is touched.

Pure functions over a script and the facts of the target. The rules:
- a role, extension, tablespace or access method that is not there is a problem, all of them named together;
- a setting or statistics call that the server's version does not know is skipped, with a note;
- ownership and grants that our role may not give are skipped, with a warning; with `skip_ownership` all are, and those
  of roles that are missing and to be left out;
- what only a superuser may make is a problem, since nothing we could skip would leave a whole application.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import LiteralString

import psycopg

from resurgam.postgres.beyond import reaches_beyond
from resurgam.postgres.script import Run, Script, Statement
from resurgam.postgres.statements import Token, codec, owner_of
from resurgam.postgres.tokens import tokens

_STATISTICS = re.compile(rb"SELECT \* FROM pg_catalog\.pg_(?:restore|clear)_\w+_stats\(")
_NOT_ROLES = frozenset({"public", "current_user", "current_role", "session_user"})
_FOR_SUPERUSERS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), what)
    for pattern, what in (
        (rb"CREATE\s+EVENT\s+TRIGGER\b", "event triggers"),
        (rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TRUSTED\s+)?(?:PROCEDURAL\s+)?LANGUAGE\b", "languages"),
        (rb"CREATE\s+ACCESS\s+METHOD\b", "access methods"),
        (rb"CREATE\s+FOREIGN\s+DATA\s+WRAPPER\b", "foreign data wrappers"),
        (rb"CREATE\s+OPERATOR\s+(?:CLASS|FAMILY)\b", "operator classes"),
        (rb"CREATE\s+PUBLICATION\b.*\bFOR\s+(?:ALL\s+TABLES|TABLES\s+IN\s+SCHEMA)\b", "publications of all tables"),
    )
)


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """The server and role that a script is to be loaded by.

    `member_of` are the roles that we may give things to (ourselves among them); `extensions` the available ones,
    True where our role may create it; `settings`, `tablespaces`, `access_methods` the names that exist. Owners and
    grants that name a role of `left_out` are skipped.
    """

    server_version: int
    role: str
    superuser: bool
    roles: frozenset[str]
    member_of: frozenset[str]
    extensions: dict[str, bool]
    settings: frozenset[str]
    tablespaces: frozenset[str]
    access_methods: frozenset[str]
    left_out: frozenset[str] = frozenset()


def read_facts(connection: psycopg.Connection) -> TargetFacts:
    """Ask a server, through any of its databases; psycopg's errors pass through."""

    def names(query: LiteralString) -> frozenset[str]:
        return frozenset(str(row[0]) for row in connection.execute(query).fetchall())

    me = connection.execute(
        "SELECT current_user, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert me is not None
    # Trusted extensions need CREATE on the database only, which whoever created it has.
    extensions = connection.execute(
        "SELECT e.name, bool_or(v.trusted OR NOT v.superuser) FROM pg_catalog.pg_available_extensions e"
        " JOIN pg_catalog.pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version"
        " GROUP BY e.name"
    ).fetchall()
    return TargetFacts(
        server_version=connection.info.server_version,
        role=str(me[0]),
        superuser=bool(me[1]),
        roles=names("SELECT rolname FROM pg_catalog.pg_roles"),
        member_of=names("SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(oid, 'MEMBER')"),
        extensions={str(name): bool(free) or bool(me[1]) for name, free in extensions},
        settings=names("SELECT name FROM pg_catalog.pg_settings"),
        tablespaces=names("SELECT spcname FROM pg_catalog.pg_tablespace"),
        access_methods=names("SELECT amname FROM pg_catalog.pg_am"),
    )


def with_roles(facts: TargetFacts, created: Iterable[str]) -> TargetFacts:
    """The facts as they will be once these roles are there, and we are members of them."""
    new = frozenset(created)
    return replace(facts, roles=facts.roles | new, member_of=facts.member_of | new)


def named_roles(script: Script) -> tuple[frozenset[str], frozenset[str]]:
    """The roles that owners and grants name, and those that policies and user mappings can't be made without."""
    encoding = codec(script.encoding)
    given: set[str] = set()
    needed: set[str] = set()
    for item in script.items:
        if isinstance(item, Run):
            given |= item.owners
        elif isinstance(item, Statement):
            given |= given_roles(item.text, encoding)
            needed |= _needed_roles(item.text, encoding)
    return frozenset(given), frozenset(needed)


def extensions_of(script: Script) -> tuple[str, ...]:
    """The extensions that a script creates, in its order."""
    items = (item for item in script.items if isinstance(item, Statement) and item.setting is None)
    return tuple(dict.fromkeys(name for item in items if (name := _extension(item.text)) is not None))


def subscriptions_of(script: Script) -> int:
    """How many subscriptions a script creates; pg_dump writes them disabled, without connecting."""
    return sum(
        isinstance(item, Statement) and re.match(rb"CREATE\s+SUBSCRIPTION\b", item.text, re.IGNORECASE) is not None
        for item in script.items
    )


def check_script(
    script: Script, facts: TargetFacts, *, skip_ownership: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Problems, which must refuse the restore, and warnings; whole sentences, nothing is touched."""
    missing = _Missing(facts)
    counts: dict[str, int] = {}
    rules = SkipRules(facts, codec(script.encoding), skip_ownership=skip_ownership)
    for item in script.items:
        if isinstance(item, Run) and not skip_ownership:
            missing.roles.update(item.owners - facts.roles - facts.left_out)
            if denied := len([role for role in item.owners if role in facts.roles and not rules.may_give(role)]):
                counts[OWNERSHIP] = counts.get(OWNERSHIP, 0) + denied
        if not isinstance(item, Statement):
            continue
        if reaches_beyond(item.text):
            missing.beyond.append(item.line)
        if not skip_ownership:
            missing.roles.update(given_roles(item.text, rules.encoding) - facts.roles - facts.left_out)
        missing.roles.update(_needed_roles(item.text, rules.encoding) - facts.roles)
        if reason := rules.reason(item):
            counts[reason] = counts.get(reason, 0) + 1
        else:
            missing.look(item)
    warnings = tuple(f"{count} statement{'s' * (count > 1)} will be skipped: {why}." for why, count in counts.items())
    return missing.sentences(), warnings


OWNERSHIP = "ALTER … OWNER TO a role that we may not give things to"


class SkipRules:
    """Which statements a load leaves out, and why."""

    def __init__(self, facts: TargetFacts, encoding: str, *, skip_ownership: bool = False) -> None:
        self._facts = facts
        self.encoding = encoding
        self._skip_ownership = skip_ownership
        self._impersonating = False

    def may_give(self, role: str) -> bool:
        """Whether we may make that role an owner."""
        facts = self._facts
        return facts.superuser or role in facts.member_of or role in _NOT_ROLES or role == "pg_database_owner"

    def reason(self, item: Statement) -> str:
        """Why this statement is skipped, as the end of a sentence; empty if it is not. Ask in the script's order."""
        if item.setting is not None:
            name = item.setting.name
            known = name in self._facts.settings or "." in name or name == "session_authorization"
            return "" if known else f"this server does not know the setting {name}"
        text = item.text
        if _STATISTICS.match(text) and self._facts.server_version < 180000:
            return "this server can't take planner statistics"
        if _ON_THE_SERVER.match(text):
            return "comments and labels of databases, roles and tablespaces, which may be those in use"
        left_out = self._facts.left_out
        if left_out and not left_out.isdisjoint(given_roles(text, self.encoding)):
            return "owners and grants that name roles which this server does not have, as asked"
        if self._impersonation(text):
            return "GRANT in the name of another role"
        if (owner := owner_of(text, self.encoding)) is not None:
            if self._skip_ownership:
                return "ALTER … OWNER TO, as asked"
            return "" if self.may_give(owner) else OWNERSHIP
        if is_grant(text):
            if self._skip_ownership:
                return "GRANT, REVOKE and ALTER DEFAULT PRIVILEGES, as asked"
            if text[:5].upper() == b"ALTER" and not all(map(self.may_give, _default_privileges_of(text))):
                return "ALTER DEFAULT PRIVILEGES for a role that we are not a member of"
        if not self._facts.superuser and re.match(rb"COMMENT\s+ON\s+EXTENSION\s+plpgsql\b", text, re.IGNORECASE):
            return "COMMENT ON EXTENSION plpgsql, which a superuser owns"
        return ""

    def _impersonation(self, text: bytes) -> bool:
        """pg_dump sets another session user around grants that another role gave."""
        if self._facts.superuser and not self._skip_ownership:
            return False
        if re.match(rb"SET\s+SESSION\s+AUTHORIZATION\b", text, re.IGNORECASE):
            self._impersonating = True
            return True
        if re.match(rb"RESET\s+SESSION\s+AUTHORIZATION\b", text, re.IGNORECASE):
            self._impersonating = False
            return True
        return self._impersonating and is_grant(text)


_ON_THE_SERVER = re.compile(
    rb"(?:COMMENT|SECURITY\s+LABEL(?:\s+FOR\s+\S+)?)\s+ON\s+(?:DATABASE|ROLE|TABLESPACE)\s", re.IGNORECASE
)


def given_roles(text: bytes, encoding: str) -> set[str]:
    """The roles that a statement of ownership or grants names."""
    owner = owner_of(text, encoding)
    if owner is not None:
        return {owner} - _NOT_ROLES
    return set(_grant_roles(text, encoding)) - _NOT_ROLES


_POLICY = re.compile(rb"CREATE\s+POLICY\s", re.IGNORECASE)
_MAPPING = re.compile(rb"CREATE\s+USER\s+MAPPING\s+(?:IF\s+NOT\s+EXISTS\s+)?FOR\s", re.IGNORECASE)


def _needed_roles(text: bytes, encoding: str) -> set[str]:
    """The roles of a policy or a user mapping, which would mean something else without them."""
    if _POLICY.match(text):
        found = list(tokens(text))
        ends = (("word", b"to"), ("word", b"using"), ("word", b"with"))
        at = next((i for i, token in enumerate(found) if token in ends), len(found))
        return set(_names(found[at + 1 :], encoding)) - _NOT_ROLES if found[at : at + 1] == [ends[0]] else set()
    if _MAPPING.match(text):
        found = list(tokens(text))
        at = next((i for i, token in enumerate(found) if token == ("word", b"for")), len(found))
        return set(_names(found[at + 1 : at + 2], encoding)) - _NOT_ROLES - {"user"}
    return set()


def _extension(text: bytes) -> str | None:
    """The extension that a statement creates."""
    if not re.match(rb"CREATE\s+EXTENSION\b", text[:200], re.IGNORECASE):
        return None
    found = [token for token in tokens(text) if token not in _IF_NOT_EXISTS]
    return found[2][1].decode("utf-8", "replace") if len(found) > 2 else ""


def is_grant(text: bytes) -> bool:
    return re.match(rb"(?:GRANT|REVOKE|ALTER\s+DEFAULT\s+PRIVILEGES)\s", text, re.IGNORECASE) is not None


def _grant_roles(text: bytes, encoding: str) -> Iterator[str]:
    """The roles after TO or FROM, and after FOR ROLE, of a grant."""
    if not is_grant(text):
        return
    found = list(tokens(text))
    last = max((i for i, t in enumerate(found) if t in (("word", b"to"), ("word", b"from"))), default=len(found))
    yield from _names(found[last + 1 :], encoding)
    yield from _default_privileges_of(text)


def _default_privileges_of(text: bytes) -> Iterator[str]:
    found = list(tokens(text))
    for at in range(len(found) - 2):
        if found[at : at + 2] == [("word", b"for"), ("word", b"role")]:
            yield from _names(found[at + 2 :], "utf-8")
            return


def _names(found: list[Token], encoding: str) -> Iterator[str]:
    """The names at the beginning of these tokens, separated by commas."""
    for at in range(0, len(found), 2):
        if found[at][0] not in ("word", "name"):
            return
        yield found[at][1].decode(encoding, "surrogateescape")
        if found[at + 1 : at + 2] != [("other", b",")]:
            return


_METHOD = re.compile(rb'CREATE\s+ACCESS\s+METHOD\s+"?([^\s"]+)', re.IGNORECASE)


class _Missing:
    """What the target lacks."""

    def __init__(self, facts: TargetFacts) -> None:
        self._facts = facts
        self.roles: set[str] = set()
        self._extensions: set[str] = set()
        self._denied_extensions: set[str] = set()
        self._tablespaces: set[str] = set()
        self._methods: set[str] = set()
        self._own_methods: set[str] = set()
        self._extended = False
        self._powers: set[str] = set()
        self.beyond: list[int] = []

    def look(self, item: Statement) -> None:
        facts = self._facts
        if item.setting is not None:
            value = (item.setting.value or "").strip()
            if item.setting.name == "default_tablespace" and value and value not in facts.tablespaces:
                self._tablespaces.add(value)
            # Access methods are a database's own: the dump may make them itself, or by an extension.
            known = self._own_methods | facts.access_methods | {""}
            if item.setting.name == "default_table_access_method" and value not in known and not self._extended:
                self._methods.add(value)
            return
        if made := _METHOD.match(item.text):
            self._own_methods.add(made.group(1).decode("utf-8", "replace"))
        if (name := _extension(item.text)) is not None:
            self._extended = self._extended or name != "plpgsql"
            if name not in facts.extensions:
                self._extensions.add(name)
            elif not facts.extensions[name]:
                self._denied_extensions.add(name)
        elif not facts.superuser and item.text[:7].upper() == b"CREATE ":
            self._powers.update(what for pattern, what in _FOR_SUPERUSERS if pattern.match(item.text[:4096]))

    def sentences(self) -> tuple[str, ...]:
        role = self._facts.role
        named = (
            (
                self.roles,
                "The dump names roles that the server does not have: {}. Create them, or restore with --roles create, "
                "or with --roles skip to leave out what is given to them.",
            ),
            (self._extensions, "The server lacks extensions: {}."),
            (self._denied_extensions, f"Only a superuser, which {role} is not, may create the extensions: {{}}."),
            (self._tablespaces, "The server lacks tablespaces: {}."),
            (self._methods, "The server lacks table access methods: {}."),
            (self._powers, f"Only a superuser, which {role} is not, may create what the dump holds: {{}}."),
            (
                {f"line {line}" for line in self.beyond[:5]},
                "The dump holds statements about the whole server (databases, roles), which are never run: {}.",
            ),
        )
        return tuple(sentence.format(", ".join(sorted(names))) for names, sentence in named if names)


_IF_NOT_EXISTS = (("word", b"if"), ("word", b"not"), ("word", b"exists"))

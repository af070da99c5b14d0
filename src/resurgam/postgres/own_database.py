"""What a dump says of the database that it is about (`pg_dump --create`), read instead of run.

The dump's own database is the one that it creates, or connects to first, before anything else. Statements about it must
reach neither the live database nor any other: they become Properties, which the new database beside is given as it is
given those that our own backups record. What is not understood is told as left out; what names another database is none
of these, and refuses the restore (beyond.py).

Pure functions. The forms are pg_dump's: bin/pg_dump/pg_dump.c, dumpDatabase; fe_utils/string_utils.c,
appendPsqlMetaConnect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from resurgam.postgres.properties import NAME_LISTS, Grant, Properties, Setting
from resurgam.postgres.statements import Token
from resurgam.postgres.tokens import tokens

ENCODING_LINE = b"\\encoding SQL_ASCII"
_CONNECT = re.compile(rb'\\connect[ \t]+(-reuse-previous=on[ \t]+)?([A-Za-z0-9_.]+|"(?:[^"]|"")*")[ \t]*')
_CONNECTION_STRING = re.compile(r"dbname=(?:([A-Za-z0-9_.]+)|'((?:[^'\\]|\\['\\])*)')")
# What hides the word behind a longer comment is refused as any other statement.
_HEAD = 1000
_NAMES = ("word", "name")
_NO_TEMPLATE = [
    *(("word", word) for word in (b"update", b"pg_catalog")),
    ("other", b"."),
    *(("word", word) for word in (b"pg_database", b"set", b"datistemplate")),
    ("other", b"="),
    *(("word", word) for word in (b"false", b"where", b"datname")),
    ("other", b"="),
]
_PRIVILEGES = {b"create": "CREATE", b"connect": "CONNECT", b"temporary": "TEMPORARY", b"temp": "TEMPORARY"}
_SOMEBODY = frozenset({b"current_user", b"current_role", b"session_user"})
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "'": "'"}
_NOT_UNDERSTOOD = "no Properties hold this"
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def connected_database(line: bytes, encoding: str) -> str | None:
    """The database that a line `\\connect NAME` of pg_dump's names; None for every other line."""
    found = _CONNECT.fullmatch(line)
    if found is None:
        return None
    name = found.group(2).decode(encoding, "surrogateescape")
    if name[0] == '"':
        name = name[1:-1].replace('""', '"')
    if not found.group(1):
        # Such a name psql takes for a connection string, or for none at all.
        return None if not name or "=" in name or name.startswith(("postgresql://", "postgres://")) else name
    parts = _CONNECTION_STRING.fullmatch(name)
    if parts is None:
        return None
    return parts.group(1) or re.sub(r"\\(.)", r"\1", parts.group(2) or "") or None


def database_of(text: bytes, encoding: str) -> str | None:
    """The one database that a statement is about; None if it is about something else, or about several."""
    if b"DATABASE" not in text[:_HEAD].upper():
        return None
    found = [token for token in tokens(text) if token != ("other", b";")]
    at = _name_at(found)
    if at is None or at >= len(found) or found[at][0] not in (*_NAMES, "string"):
        return None
    # Unquoted letters beyond ASCII: the server folds them by its locale, which is not known here.
    if found[at][0] == "word" and not found[at][1].isascii():
        return None
    return found[at][1].decode(encoding, "surrogateescape")


def _name_at(found: list[Token]) -> int | None:
    """Where in the tokens of a statement about a database its name stands."""
    words = [value if kind == "word" else b"" for kind, value in found]
    if words[:2] in ([b"create", b"database"], [b"alter", b"database"], [b"drop", b"database"]):
        return 4 if words[2:4] == [b"if", b"exists"] else 2
    if words[:2] in ([b"alter", b"role"], [b"alter", b"user"]):
        return 5 if words[3:5] == [b"in", b"database"] else None
    if words[:3] == [b"comment", b"on", b"database"]:
        return 3
    if words[:2] == [b"security", b"label"]:
        at = 4 if words[2:3] == [b"for"] else 2
        return at + 2 if words[at : at + 2] == [b"on", b"database"] else None
    if words[:1] in ([b"grant"], [b"revoke"]) and b"on" in words:
        at = words.index(b"on")
        single = words[at + 1 : at + 2] == [b"database"] and words[at + 3 : at + 4] in ([b"to"], [b"from"])
        return at + 2 if single else None
    if found[:-1] == _NO_TEMPLATE and found[-1][0] == "string":
        return len(found) - 1
    return None


def creates(text: bytes) -> bool:
    """Whether a statement about a database creates it."""
    return text[:6].upper() == b"CREATE"


@dataclass(frozen=True, slots=True)
class Told:
    """The properties, and the beginnings of statements that were not understood."""

    properties: Properties
    left_out: tuple[str, ...]


def told_properties(texts: Iterable[bytes], fresh: Properties, present: Properties | None, encoding: str) -> Told:
    """What statements about the dump's own database say of it, in their order.

    `fresh`: what a database has that CREATE DATABASE makes without saying more; `present`: what it has if they don't
    create it.
    """
    statements = list(texts)
    begins = fresh if present is None or any(map(creates, statements)) else present
    reader = _Reader(begins, encoding)
    for text in statements:
        reader.read(text)
    return Told(reader.properties(), tuple(reader.left_out))


class _Reader:
    """Reads one statement after the other into what will be Properties."""

    def __init__(self, begins: Properties, encoding: str) -> None:
        self.left_out: list[str] = []
        self._found = begins
        self._encoding = encoding
        self._settings = {(setting.role, setting.name): setting.value for setting in begins.settings}
        self._labels = dict(begins.labels)
        self._changes: list[list[Token]] = []

    def read(self, text: bytes) -> None:
        found = [token for token in tokens(text) if token != ("other", b";")]
        at = _name_at(found)
        assert at is not None
        readers: dict[bytes, Callable[[list[Token], int], None]] = {
            b"create": self._create,
            b"alter": self._alter,
            b"comment": self._comment,
            b"security": self._label,
            b"grant": self._rights,
            b"revoke": self._rights,
        }
        # DROP DATABASE, and the UPDATE that makes it possible: the swap replaces it.
        reader = readers.get(found[0][1])
        try:
            if reader is not None:
                reader(found, at)
        except ValueError:
            self.left_out.append(text.decode(self._encoding, "backslashreplace").strip()[:100])

    def properties(self) -> Properties:
        return replace(
            self._found,
            settings=tuple(Setting(role, name, value) for (role, name), value in self._settings.items()),
            labels=tuple(self._labels.items()),
            grants=self._grants(),
        )

    def _text(self, token: Token) -> str:
        """The value of a string, or of a word or number that stands for one."""
        kind, value = token
        if kind == "odd":
            return self._escaped(value)
        if kind not in ("string", "number", *_NAMES):
            raise ValueError(_NOT_UNDERSTOOD)
        return value.decode(self._encoding, "surrogateescape")

    def _escaped(self, value: bytes) -> str:
        if value[:2] not in (b"E'", b"e'"):
            raise ValueError(_NOT_UNDERSTOOD)

        def one(found: re.Match[str]) -> str:
            if found.group() == "''":
                return "'"
            if found.group(1) not in _ESCAPES:
                raise ValueError(_NOT_UNDERSTOOD)
            return _ESCAPES[found.group(1)]

        return re.sub(r"''|\\(.)", one, value[2:-1].decode(self._encoding, "surrogateescape"), flags=re.DOTALL)

    def _name(self, found: list[Token], at: int) -> str:
        if at >= len(found) or found[at][0] not in _NAMES:
            raise ValueError(_NOT_UNDERSTOOD)
        return self._text(found[at])

    def _create(self, found: list[Token], at: int) -> None:
        rest = [token for token in found[at + 1 :] if token not in (("word", b"with"), ("other", b"="))]
        if len(rest) % 2:
            raise ValueError(_NOT_UNDERSTOOD)
        said = {rest[i][1]: self._text(rest[i + 1]) for i in range(0, len(rest), 2)}
        known = self._found
        provider = said.pop(b"locale_provider", known.provider)
        both = said.pop(b"locale", None)
        own = said.pop(b"icu_locale", said.pop(b"builtin_locale", both))
        self._found = replace(
            known,
            encoding=said.pop(b"encoding", known.encoding),
            provider=provider,
            collate=said.pop(b"lc_collate", both or known.collate),
            ctype=said.pop(b"lc_ctype", both or known.ctype),
            locale=None if provider == "libc" else own or known.locale,
            icu_rules=said.pop(b"icu_rules", None),
            tablespace=said.pop(b"tablespace", known.tablespace),
            owner=said.pop(b"owner", known.owner),
        )
        if said.keys() - {b"template", b"strategy", b"collation_version"}:
            raise ValueError(_NOT_UNDERSTOOD)

    def _alter(self, found: list[Token], at: int) -> None:
        role = ""
        if found[1][1] != b"database" and found[2] != ("word", b"all"):
            role = self._name(found, 2)
        rest = [token for token in found[at + 1 :] if token not in (("word", b"with"), ("other", b"="))]
        words = [value if kind == "word" else b"" for kind, value in rest]
        if words[:1] == [b"set"] and words[1:2] != [b"tablespace"]:
            self._set(role, found[at + 2 :])
        elif words == [b"reset", b"all"]:
            self._settings = {key: value for key, value in self._settings.items() if key[0] != role}
        elif words[:1] == [b"reset"] and len(rest) == 2:
            self._settings.pop((role, self._name(rest, 1)), None)
        elif words[:2] == [b"owner", b"to"] and len(rest) == 3 and not role and words[2] not in _SOMEBODY:
            self._found = replace(self._found, owner=self._name(rest, 2))
        elif words[:2] == [b"connection", b"limit"] and not role:
            number = b"".join(value for _, value in rest[2:])
            if not re.fullmatch(rb"-?[0-9]{1,9}", number):
                raise ValueError(_NOT_UNDERSTOOD)
            self._found = replace(self._found, connection_limit=int(number))
        elif words in ([b"is_template", b"true"], [b"is_template", b"false"]) and not role:
            self._found = replace(self._found, is_template=words[1] == b"true")
        else:
            raise ValueError(_NOT_UNDERSTOOD)

    def _set(self, role: str, found: list[Token]) -> None:
        """`NAME { TO | = } VALUE, …`"""
        name, at = self._name(found, 0), 1
        while found[at : at + 1] == [("other", b".")]:
            name, at = f"{name}.{self._name(found, at + 1)}", at + 2
        if found[at : at + 1] not in ([("word", b"to")], [("other", b"=")]):
            raise ValueError(_NOT_UNDERSTOOD)
        values = list(self._values(found[at + 1 :]))
        if found[at + 1 :] == [("word", b"default")]:
            self._settings.pop((role, name), None)
            return
        if name.lower() in NAME_LISTS:
            values = [one if _PLAIN_NAME.fullmatch(one) else '"' + one.replace('"', '""') + '"' for one in values]
        self._settings[role, name] = ", ".join(values)

    def _values(self, found: list[Token]) -> Iterator[str]:
        part = ""
        for token in found:
            if token == ("other", b","):
                yield part
                part = ""
            else:
                part += "-" if token == ("other", b"-") else self._text(token)
        yield part

    def _comment(self, found: list[Token], at: int) -> None:
        if found[at + 1 : at + 2] != [("word", b"is")] or len(found) != at + 3:
            raise ValueError(_NOT_UNDERSTOOD)
        nothing = found[at + 2] == ("word", b"null")
        self._found = replace(self._found, comment=None if nothing else self._text(found[at + 2]))

    def _label(self, found: list[Token], at: int) -> None:
        if found[2] != ("word", b"for") or found[at + 1 : at + 2] != [("word", b"is")] or len(found) != at + 3:
            raise ValueError(_NOT_UNDERSTOOD)
        provider = self._text(found[3])
        if found[at + 2] == ("word", b"null"):
            self._labels.pop(provider, None)
        else:
            self._labels[provider] = self._text(found[at + 2])

    def _rights(self, found: list[Token], at: int) -> None:
        """Checked here, carried out when the owner is known, who has all rights unless they are revoked."""
        self._change(found, {})
        self._changes.append(found)

    def _grants(self) -> tuple[Grant, ...] | None:
        if not self._changes:
            return self._found.grants
        rights: dict[tuple[str, str], bool]
        if self._found.grants is None:
            rights = dict.fromkeys((("", "CONNECT"), ("", "TEMPORARY")), False)
            rights |= {(self._found.owner, privilege): False for privilege in ("CREATE", "CONNECT", "TEMPORARY")}
        else:
            rights = {(grant.grantee, grant.privilege): grant.grantable for grant in self._found.grants}
        for found in self._changes:
            self._change(found, rights)
        return tuple(Grant(grantee, privilege, option) for (grantee, privilege), option in sorted(rights.items()))

    def _change(self, found: list[Token], rights: dict[tuple[str, str], bool]) -> None:
        """Grant or revoke among `rights`: (grantee, privilege): with grant option."""
        grants = found[0][1] == b"grant"
        words = [value if kind == "word" else b"" for kind, value in found]
        at = words.index(b"on")
        only_option = words[1:4] == [b"grant", b"option", b"for"]
        named = words[4 if only_option else 1 : at]
        ends = len(found)
        option = False
        if grants and words[-3:] == [b"with", b"grant", b"option"]:
            ends, option = ends - 3, True
        elif words[-1] in (b"cascade", b"restrict"):
            ends -= 1
        grantees = list(self._grantees(found[at + 4 : ends]))
        for privilege in self._privileges(named):
            for grantee in grantees:
                if grants:
                    rights[grantee, privilege] = option or rights.get((grantee, privilege), False)
                elif only_option and (grantee, privilege) in rights:
                    rights[grantee, privilege] = False
                elif not only_option:
                    rights.pop((grantee, privilege), None)

    def _privileges(self, words: list[bytes]) -> Iterator[str]:
        if words in ([b"all"], [b"all", b"privileges"]):
            yield from ("CREATE", "CONNECT", "TEMPORARY")
            return
        for at, word in enumerate(words):
            if at % 2 == 0:
                if word not in _PRIVILEGES:
                    raise ValueError(_NOT_UNDERSTOOD)
                yield _PRIVILEGES[word]

    def _grantees(self, found: list[Token]) -> Iterator[str]:
        for at, token in enumerate(found):
            if at % 2:
                if token != ("other", b","):
                    raise ValueError(_NOT_UNDERSTOOD)
            elif token == ("word", b"public"):
                yield ""
            elif token[0] == "word" and token[1] in _SOMEBODY:
                raise ValueError(_NOT_UNDERSTOOD)
            else:
                yield self._name(found, at)

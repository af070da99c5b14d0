"""What of a dump a role without superuser rights can load, what must be there beforehand, and what is left out by name.

Pure decisions over a script. The rules:
- extensions, with the schemas that they stand in and their comments, are made beforehand by a superuser, in statements
  of our own words: while nothing of the dump has run, nothing of it can lie in wait for a superuser;
- what only a superuser may make is left out, with all whose statements name it, tables with their data included.
  pg_dump qualifies names, but leaves most dependencies out of a plain dump (observed in 15 to 18);
- so are ownership, and grants that the owner of an object gives or takes as to himself: the role owns everything;
- what is left out is named. Whoever compares must still compare its text with what was backed up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from resurgam.counting import count_text
from resurgam.postgres.loadcheck import SkipRules, TargetFacts, given_roles, is_grant
from resurgam.postgres.script import CopyBlock, Item, Run, Script, Statement
from resurgam.postgres.statements import Token, codec, owner_of
from resurgam.postgres.tokens import tokens

# Their functions reach other servers, files or programs, and everybody may call them.
_REACHING = frozenset(
    {"dblink", "http", "pg_net", "pg_curl", "pg_cron", "plsh", "pg_background", "plproxy", "pljava", "orafce"}
    | {"aws_s3", "aws_lambda", "azure_storage", "azure_ai", "google_ml_integration"}
)
_NO_EVENTS = "event triggers are a superuser's"
_POWERS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), why)
    for pattern, why in (
        (rb"(?:CREATE|ALTER)\s+EVENT\s+TRIGGER\b|COMMENT\s+ON\s+EVENT\s+TRIGGER\b", _NO_EVENTS),
        (
            rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:TRUSTED\s+)?(?:PROCEDURAL\s+)?LANGUAGE\b"
            rb"|COMMENT\s+ON\s+(?:PROCEDURAL\s+)?LANGUAGE\b|(?:GRANT|REVOKE)\b[^;'\"]*\bON\s+LANGUAGE\b",
            "languages are a superuser's",
        ),
        (rb"(?:CREATE|COMMENT\s+ON)\s+ACCESS\s+METHOD\b", "access methods are a superuser's"),
        (
            rb"(?:CREATE|COMMENT\s+ON)\s+(?:FOREIGN\s+DATA\s+WRAPPER|SERVER|FOREIGN\s+TABLE|USER\s+MAPPING)\b"
            rb"|(?:GRANT|REVOKE)\b[^;'\"]*\bON\s+FOREIGN\s+(?:DATA\s+WRAPPER|SERVER)\b",
            "wrappers of foreign data are a superuser's, and with them servers and foreign tables",
        ),
        (rb"(?:CREATE|ALTER)\s+OPERATOR\s+(?:CLASS|FAMILY)\b", "operator classes are a superuser's"),
        (
            rb"(?:CREATE|ALTER)\s+PUBLICATION\b.*\b(?:FOR\s+ALL\s+TABLES|TABLES\s+IN\s+SCHEMA)\b",
            "publications of all tables are a superuser's",
        ),
        (rb"(?:CREATE|ALTER)\s+SUBSCRIPTION\b|COMMENT\s+ON\s+SUBSCRIPTION\b", "subscriptions need rights of their own"),
        (rb"CREATE\s+TEXT\s+SEARCH\s+(?:PARSER|TEMPLATE)\b", "parsers and templates are a superuser's"),
        (rb"(?:CREATE|COMMENT\s+ON)\s+TRANSFORM\b", "transforms are for the owner of a type"),
        (rb"CREATE\s+CAST\b.*\bWITHOUT\s+FUNCTION\b|CREATE\s+CAST\s*\([^.]*\)\s", "such casts are a superuser's"),
        (rb"CREATE\s+AGGREGATE\b.*\bSTYPE\s*=\s*internal\b", "its state is the server's own"),
    )
)
_FUNCTION = re.compile(rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:FUNCTION|PROCEDURE)\b", re.IGNORECASE)
_TYPE = re.compile(rb"CREATE\s+TYPE\b", re.IGNORECASE)
_UNTRUSTED = re.compile(rb"c|internal|plsh|plr|.*u", re.DOTALL)
_SCHEMA = re.compile(rb'CREATE\s+SCHEMA\s+("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)\s*;', re.IGNORECASE)
_COMMENT = re.compile(rb"COMMENT\s+ON\s+EXTENSION\b", re.IGNORECASE)
_CATALOGS = frozenset({"pg_catalog", "information_schema"})
_OWNED = "ALTER … OWNER TO"


@dataclass(frozen=True, slots=True)
class Extension:
    """One to be created beforehand. `schema` None: where its author wants it; `comment` None: its author's."""

    name: str
    schema: str | None
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item of the dump that is not loaded: what it is called, and why, as the end of a sentence."""

    item: Item
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class PlainScript:
    """`script` is what the role loads, after `schemas` and `extensions` are there. `plpgsql` is that one's comment."""

    script: Script
    schemas: tuple[str, ...]
    extensions: tuple[Extension, ...]
    left_out: tuple[LeftOut, ...]
    plpgsql: str | None = None


def plain_script(script: Script, facts: TargetFacts) -> PlainScript:
    """Divide a script for the role of `facts`, which is no superuser and owns nothing but the database."""
    encoding = codec(script.encoding)
    wanted = dict(_extensions(script, facts))
    spaces = {extension.schema for extension in wanted.values()}
    comments: dict[str, str] = {}
    schemas: list[str] = []
    kept: list[Item] = []
    left_out: list[LeftOut] = []
    gone = _Gone(encoding)
    rules = SkipRules(facts, encoding)
    for item in script.items:
        if isinstance(item, Statement):
            if _extension_of(item.text) in wanted:
                continue
            if (made := _schema_of(item.text, encoding)) is not None and made in spaces:
                schemas.append(made)
                continue
            if (told := _comment_of(item.text)) is not None and (told[0] in wanted or told[0] == "plpgsql"):
                comments[told[0]] = told[1]
                continue
        if why := _why_not(item, rules, gone):
            left_out.append(LeftOut(item, _called(item), why))
            gone.add(item)
        else:
            kept.append(item)
            gone.made.update(_made_by(item))
    tables = {(one.item.table.schema, one.item.table.name) for one in left_out if isinstance(one.item, CopyBlock)}
    rows = {table: count for table, count in script.rows.items() if table not in tables}
    return PlainScript(
        replace(script, items=tuple(kept), rows=rows),
        tuple(schemas),
        tuple(replace(one, comment=comments.get(name)) for name, one in wanted.items()),
        tuple(left_out),
        comments.get("plpgsql"),
    )


def told(left_out: tuple[LeftOut, ...]) -> tuple[str, ...]:
    """Sentences on what was not loaded, by name: of ownership and rights only how many statements, and whose."""
    sentences = []
    owners: dict[str, int] = {}
    for one in left_out:
        if isinstance(one.item, Statement) and one.why == _OWNED:
            role = owner_of(one.item.text, "utf-8") or ""
            owners[role] = owners.get(role, 0) + 1
        else:
            sentences.append(f"{one.name}: {one.why}")
    sentences += [
        f"The owner {role} of {count_text(count, 'object')}: the drill's own role owns all"
        for role, count in owners.items()
    ]
    return tuple(f"{sentence}." for sentence in dict.fromkeys(sentences))


def _why_not(item: Item, rules: SkipRules, gone: _Gone) -> str:
    """Why the role can't load it; empty if it can, or if nothing speaks against trying."""
    if isinstance(item, CopyBlock):
        return gone.needed(item.text)
    if not isinstance(item, Statement):
        return ""
    if item.setting is not None:
        method = item.setting.name == "default_table_access_method" and item.setting.value in gone.methods
        return "access methods are a superuser's" if method else ""
    if owner_of(item.text, rules.encoding) is not None:
        return _OWNED
    if why := next((why for pattern, why in _POWERS if pattern.match(item.text)), ""):
        return why
    if (_extension_of(item.text) or "plpgsql") != "plpgsql" or _COMMENT.match(item.text):
        return "extensions that reach beyond the database are a superuser's"
    if _TYPE.match(item.text) and _is_base(item.text):
        return "base types are a superuser's"
    if _FUNCTION.match(item.text) and (why := _untrusted(item.text, gone.languages)):
        return why
    if is_grant(item.text) and item.toc is not None:
        if item.toc.owner in given_roles(item.text, rules.encoding):
            return f"rights of the owner, {item.toc.owner}, to what is his"
        if item.toc.schema in _CATALOGS or not gone.made.issuperset(islice(_qualified(item.text), 1)):
            return "rights to what is the server's own, or an extension's"
    return rules.reason(item) or gone.needed(item.text)


def _is_base(text: bytes) -> bool:
    """Whether the type has functions of its own, or is the shell of such a type; all others are made AS something."""
    after = next((token for token in islice(tokens(text), 2, None) if token in _AFTER_TYPE), None)
    return after != ("word", b"as")


_AFTER_TYPE = (("word", b"as"), ("other", b"("), ("other", b";"))


def _untrusted(text: bytes, languages: Set[bytes]) -> str:
    found = list(tokens(text))
    for before, (kind, value) in pairwise(found):
        language = before == ("word", b"language") and kind in ("word", "name", "string")
        if language and (value in languages or _UNTRUSTED.fullmatch(value)):
            return f"functions in {value.decode('utf-8', 'replace')} are a superuser's"
        if (kind, value) == ("word", b"leakproof") and before != ("word", b"not"):
            return "only a superuser may call a function leakproof"
    return ""


class _Gone:
    """What was left out so far, by names that other statements would use for it; `made`: those of all else."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._names: set[tuple[bytes, bytes]] = set()  # schema and name; a function has the same one with any arguments
        self._pieces: set[bytes] = set()  # operators and casts, as pg_dump writes them
        self._publications: set[bytes] = set()
        self._reaching: set[tuple[bytes, bytes]] = set()  # extensions, whose functions mostly begin with their names
        self.made: set[tuple[bytes, bytes]] = set()
        self.languages: set[bytes] = set()
        self.methods: set[str] = set()

    def add(self, item: Item) -> None:
        text = item.text if isinstance(item, Statement) else b""
        if found := re.match(rb"CREATE\s+ACCESS\s+METHOD\s+(\S+)", text):
            self.methods.add(found[1].decode(self._encoding, "surrogateescape").strip('"'))
        elif found := re.match(rb"CREATE (OPERATOR [^\s\w\"]*[\w\"]+\.[^\w\s(]+) \(|CREATE (CAST \([^;]*?\)) W", text):
            piece = found[1] or found[2]
            self._pieces.add(piece.replace(b"OPERATOR ", b"OPERATOR("))
            self._pieces.add(piece)
        elif re.match(rb"CREATE\s[^;'\"]*\bLANGUAGE\b", text) and not _FUNCTION.match(text):
            words = list(islice(tokens(text), 8))
            self.languages |= {name for (_, word), (_, name) in pairwise(words) if word == b"language"}
        elif (extension := _extension_of(text)) is not None:
            schema = _after(list(tokens(text)), b"schema") or "public"
            self._reaching.add((schema.encode(self._encoding, "surrogateescape"), extension.encode()))
        elif re.match(rb"CREATE\s+PUBLICATION\b", text):
            self._publications.add(list(tokens(text))[2][1])
        elif (index := _INDEX.match(text)) and (pair := next(_qualified(text[index.end() :]), None)):
            self._names.add((pair[0], next(tokens(index[1]))[1]))
        self._names.update(_made_by(item))

    def needed(self, text: bytes) -> str:
        """What of it a statement names, as `it needs …`; empty if nothing."""
        if named := next((pair for pair in _qualified(text) if pair in self._names or self._reaches(pair)), None):
            return f"it needs {self._text(b'.'.join(named))}"
        if piece := next((piece for piece in self._pieces if piece in text), None):
            return f"it needs {self._text(piece.replace(b'(', b' ', 1))}"
        about = islice(tokens(text), 2, 4) if _PUBLICATION.match(text) else ()
        if name := next((value for _, value in about if value in self._publications), None):
            return f"it needs the publication {self._text(name)}"
        return ""

    def _reaches(self, pair: tuple[bytes, bytes]) -> bool:
        return any(pair[0] == schema and pair[1].startswith(name) for schema, name in self._reaching)

    def _text(self, name: bytes) -> str:
        return name.decode(self._encoding, "replace")


_INDEX = re.compile(rb'CREATE\s+(?:UNIQUE\s+)?INDEX\s+("(?:[^"]|"")+"|\w+)\s+ON\s+', re.IGNORECASE)
_PUBLICATION = re.compile(rb"(?:ALTER|COMMENT\s+ON)\s+PUBLICATION\b", re.IGNORECASE)
_OF_ANOTHER = re.compile(rb"CREATE\s+(?:CONSTRAINT|TRIGGER|EVENT|RULE|POLICY|CAST|TRANSFORM)\b", re.IGNORECASE)
_SETVAL = re.compile(rb"SELECT pg_catalog\.setval\('((?:[^']|'')+)'")


def _made_by(item: Item) -> Iterator[tuple[bytes, bytes]]:
    """What a statement makes, by schema and name, where both stand in it."""
    text = item.text if isinstance(item, Statement) else b""
    if text[:7].upper() == b"CREATE " and not _OF_ANOTHER.match(text) and not _INDEX.match(text):
        yield from islice(_qualified(text), 1)
    if found := re.search(rb"\bSEQUENCE NAME ", text):
        yield from islice(_qualified(text[found.end() :]), 1)


def _qualified(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every `schema.name` in a statement, also that of a setval(); bodies and other strings are not looked into."""
    if setval := _SETVAL.match(text):
        text = setval[1].replace(b"''", b"'")
    last: list[Token] = []
    for token in tokens(text):
        last = [*last[-2:], token]
        if len(last) == 3 and last[1] == ("other", b".") and {last[0][0], last[2][0]} <= {"word", "name"}:
            yield last[0][1], last[2][1]


def _called(item: Item) -> str:
    if item.toc is not None and not (isinstance(item, Statement) and item.setting is not None):
        schema = f"{item.toc.schema}." if item.toc.schema else ""
        return f"{item.toc.type} {schema}{item.toc.name}"
    text = item.text if not isinstance(item, Run) else b""
    return f"line {item.line}: " + " ".join(text[:80].decode("utf-8", "backslashreplace").split())


def _extensions(script: Script, facts: TargetFacts) -> Iterator[tuple[str, Extension]]:
    for item in script.items:
        name = _extension_of(item.text) if isinstance(item, Statement) else None
        if name is not None and name != "plpgsql" and name in facts.extensions and name not in _REACHING:
            assert isinstance(item, Statement)
            yield name, Extension(name, _after(list(tokens(item.text)), b"schema"))


def _extension_of(text: bytes) -> str | None:
    if not re.match(rb"CREATE\s+EXTENSION\b", text[:200], re.IGNORECASE):
        return None
    found = [token for token in tokens(text) if token not in (("word", b"if"), ("word", b"not"), ("word", b"exists"))]
    return found[2][1].decode("utf-8", "replace") if len(found) > 2 and found[2][0] in ("word", "name") else None


def _after(found: list[Token], word: bytes) -> str | None:
    at = next((at for at, token in enumerate(found) if token == ("word", word)), len(found))
    return found[at + 1][1].decode("utf-8", "surrogateescape") if found[at + 1 : at + 2] else None


def _schema_of(text: bytes, encoding: str) -> str | None:
    """The schema that `CREATE SCHEMA name;`, and nothing more, makes."""
    if _SCHEMA.fullmatch(text.strip()) is None:
        return None
    return list(tokens(text))[2][1].decode(encoding, "surrogateescape")


def _comment_of(text: bytes) -> tuple[str, str] | None:
    """Extension and comment of a `COMMENT ON EXTENSION name IS 'text';`."""
    if _COMMENT.match(text) is None:
        return None
    found = list(tokens(text))
    if len(found) != 7 or found[4] != ("word", b"is") or found[5][0] != "string":
        return None
    return found[3][1].decode("utf-8", "replace"), found[5][1].decode("utf-8", "replace")

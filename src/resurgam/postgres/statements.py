"""What single statements of a dump say, as far as the scanner must know it: COPY, SET, pg_dump's comments.

Pure functions over the bytes of one statement. What is not understood is None (or, for COPY, refused): the
callers then take the careful road.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from resurgam.errors import HostileError
from resurgam.postgres.tokens import tokens

Token = tuple[str, bytes]

# Encodings whose characters may hold the bytes of quotes and backslashes; the server does not use them itself.
CLIENT_ONLY = frozenset(
    {"sjis", "shiftjis", "mskanji", "win932", "windows932", "shiftjis2004", "big5", "win950", "windows950", "gbk"}
    | {"win936", "windows936", "uhc", "win949", "windows949", "gb18030", "johab"}
)
_CODECS = {"utf8": "utf-8", "unicode": "utf-8", "sqlascii": "utf-8", "eucjp": "euc_jp", "euccn": "gb2312",
           "euckr": "euc_kr", "koi8r": "koi8_r", "koi8": "koi8_r", "koi8u": "koi8_u", "latin9": "iso8859_15",
           "latin10": "iso8859_16", "latin5": "iso8859_9", "latin6": "iso8859_10", "latin7": "iso8859_13",
           "latin8": "iso8859_14", "eucjis2004": "euc_jis_2004"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TocEntry:
    """pg_dump's comment before an object: believed for headings and reports, never for what a statement does.

    `dependencies` are ids of other entries; both are there only in dumps made with `pg_dump -v` (else id 0).
    """

    id: int
    dependencies: tuple[int, ...]
    name: str
    type: str
    schema: str | None
    owner: str
    data: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation as a statement names it; `schema` None where the search path decides."""

    schema: str | None
    name: str

    def overlaps(self, other: Relation) -> bool:
        """Whether both may be the same relation."""
        return self.name == other.name and (self.schema == other.schema or None in (self.schema, other.schema))

    def sql(self) -> str:
        """The name as it stands in SQL, quoted."""
        parts = [part for part in (self.schema, self.name) if part is not None]
        return ".".join('"' + part.replace('"', '""') + '"' for part in parts)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Setting:
    """A change of a session setting; `value` is None for RESET, and otherwise its text as far as it is one word."""

    name: str
    value: str | None


def codec(encoding: str) -> str:
    """Python's name of a PostgreSQL encoding; UTF-8 where it is not known."""
    plain = re.sub(r"[^a-z0-9]", "", encoding.lower())
    if plain in _CODECS:
        return _CODECS[plain]
    if found := re.fullmatch(r"(?:win|windows)(\d+)", plain):
        return f"cp{found.group(1)}"
    if found := re.fullmatch(r"(?:latin|iso88590?)(\d)", plain):
        return f"iso8859_{found.group(1)}"
    return "utf-8"


def client_only(encoding: str) -> bool:
    """Whether text in this encoding can't be lexed byte by byte."""
    return re.sub(r"[^a-z0-9]", "", encoding.lower()) in CLIENT_ONLY


def parse_relation(found: list[Token], at: int, encoding: str) -> tuple[Relation, int] | None:
    """The (possibly qualified) name at a position of the tokens, and the position after it."""
    parts: list[str] = []
    while at < len(found) and found[at][0] in ("word", "name"):
        # Unquoted letters beyond ASCII: the server folds them by its locale, which is not known here.
        if found[at][0] == "word" and not found[at][1].isascii():
            return None
        parts.append(found[at][1].decode(encoding, "surrogateescape"))
        at += 1
        if at < len(found) and found[at] == ("other", b"."):
            at += 1
            continue
        break
    if len(parts) == 1:
        return Relation(None, parts[0]), at
    return (Relation(parts[0], parts[1]), at) if len(parts) == 2 else None


def parse_copy(text: bytes, line: int, encoding: str) -> tuple[Relation, bool]:
    """The table of a `COPY … FROM stdin` in text format, and whether it is free of options.

    Raises HostileError for every other COPY: to or from a file or program of the server, a query, another format.
    """
    found = list(tokens(text))
    named = parse_relation(found, 1, encoding)
    if named is None:
        raise _refused_copy(line)
    relation, at = named
    if at < len(found) and found[at] == ("other", b"("):
        at += 1
        while at < len(found) and (found[at][0] in ("word", "name") or found[at] == ("other", b",")):
            at += 1
        if at == len(found) or found[at] != ("other", b")"):
            raise _refused_copy(line)
        at += 1
    if [value for kind, value in found[at : at + 2] if kind == "word"] != [b"from", b"stdin"]:
        raise _refused_copy(line)
    noise = {("other", sign) for sign in (b";", b"(", b")", b",")} | {("word", b"with"), ("word", b"as")}
    rest = [value.lower() for kind, value in found[at + 2 :] if (kind, value) not in noise]
    plain = not rest
    while rest:
        option = rest.pop(0)
        if option == b"freeze":
            rest = rest[1:] if rest and rest[0] in (b"true", b"on", b"1") else rest
        elif (option in (b"null", b"delimiter", b"delimiters") and rest) or (
            option == b"format" and rest and rest[0] == b"text"
        ):
            rest.pop(0)
        else:
            raise _refused_copy(line)
    return relation, plain


def _refused_copy(line: int) -> HostileError:
    return HostileError(
        f"Line {line} of the dump is refused: it holds a COPY other than COPY table FROM stdin in text format.",
        "Such a COPY can read and write the server's files or run programs; pg_dump writes none.",
    )


def parse_setting(text: bytes) -> Setting | None:
    """The setting that a SET, RESET or set_config() changes for the session; None for every other statement."""
    found = [token for token in tokens(text[:4096]) if token != ("other", b";")]
    words = [value if kind == "word" else b"" for kind, value in found]
    if words[:1] == [b"select"]:
        return _parse_set_config(found)
    if words[:1] == [b"reset"] and len(found) == 2 and words[1] not in (b"all", b"role", b"session_authorization"):
        return Setting(found[1][1].decode("utf-8", "replace").lower(), None)
    if words[:1] != [b"set"]:
        return None
    del found[0], words[0]
    if words[:1] == [b"session"] and words[1:2] not in ([b"authorization"], [b"characteristics"]):
        del found[0], words[0]
    if words[:2] == [b"time", b"zone"]:
        return Setting("timezone", _value(found[2:]))
    if words[:1] == [b"names"]:
        return Setting("client_encoding", _value(found[1:]))
    if words[:1] in ([b"local"], [b"transaction"], [b"constraints"], [b"role"], [b"session_authorization"]):
        return None
    name = b""
    while found and found[0][0] in ("word", "name"):
        name += found.pop(0)[1]
        if found[:1] != [("other", b".")]:
            break
        name += found.pop(0)[1]
    if not found or found[0] not in (("word", b"to"), ("other", b"=")) or not name:
        return None
    return Setting(name.decode("utf-8", "replace").lower(), _value(found[1:]))


def _value(found: list[Token]) -> str | None:
    if len(found) == 1 and found[0] == ("word", b"default"):
        return None
    return "".join(value.decode("utf-8", "replace") for _, value in found)


def _parse_set_config(found: list[Token]) -> Setting | None:
    values = [value for kind, value in found if kind == "string"]
    shape = [value for kind, value in found if kind != "string"]
    if shape[1:3] == [b"pg_catalog", b"."]:
        del shape[1:3]
    if shape != [b"select", b"set_config", b"(", b",", b",", b"false", b")"] or len(values) != 2:
        return None
    if values[0].lower() in (b"role", b"session_authorization"):
        return None
    return Setting(values[0].decode("utf-8", "replace").lower(), values[1].decode("utf-8", "replace"))


def owner_of(text: bytes, encoding: str) -> str | None:
    """The role that an `ALTER … OWNER TO role` names; None for every other statement."""
    if b"OWNER TO" not in text:
        return None
    found = list(tokens(text))
    words = [value if kind == "word" else b"" for kind, value in found]
    if words[0] == b"alter" and len(found) > 4 and words[-4:-2] == [b"owner", b"to"]:
        return found[-2][1].decode(encoding, "surrogateescape")
    return None


_TOC_ID = re.compile(rb"-- TOC entry (\d{1,10}) \(class \d+ OID \d+\)")
_TOC_NEEDS = re.compile(rb"-- Dependencies:((?: \d{1,10})+)")
_TOC_NAME = re.compile(
    rb"-- (Data for )?Name: (.*); Type: (.*); Schema: (.*); Owner: (.*?)(?:; Tablespace: .*)?", re.DOTALL
)


def parse_toc(comments: Iterable[bytes], encoding: str) -> TocEntry | None:
    """The entry that these `--` lines, standing before a statement, announce."""
    number, needs = 0, ()  # type: int, tuple[int, ...]
    for line in comments:
        if found := _TOC_ID.fullmatch(line):
            number = int(found.group(1))
        elif found := _TOC_NEEDS.fullmatch(line):
            needs = tuple(int(part) for part in found.group(1).split())
        elif found := _TOC_NAME.fullmatch(line):
            name, kind, schema, owner = (part.decode(encoding, "replace") for part in found.groups()[1:])
            return TocEntry(number, needs, name, kind, None if schema == "-" else schema, owner, bool(found.group(1)))
    return None

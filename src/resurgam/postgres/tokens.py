"""The tokens of one statement, for those who must know what it says: names, key words, strings.

The lexer finds where statements end; here one whole statement is taken apart, lazily, so that the head of a long
one costs little.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

IDENT = rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+"
_COMMENT_PART = re.compile(rb"/\*|\*/")
_TOKEN = re.compile(
    rb"(?P<skip>[ \t\n\r\f\v]++|--[^\n\r]*+)|(?P<comment>/\*)"
    rb"|(?P<string>(?:[bBxX]|[uU]&)?+'(?:[^']|'')*+')|(?P<escaped>[eE]'(?:[^'\\]|\\.|'')*+')"
    rb'|(?P<unicode>[uU]&"(?:[^"]|"")*+")|(?P<name>"(?:[^"]|"")*+")'
    rb"|(?P<word>" + IDENT + rb")|(?P<number>[0-9][0-9A-Za-z_.]*+)"
    rb"|(?P<dollar>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$)|(?P<other>.)",
    re.DOTALL,
)

# INSERTs as pg_dump writes them: a whole stretch in one match. What does not fit is lexed step by step.
_NAME = rb'(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+|"[^"]*+")'
_ITEM = rb"(?:(?:'[^']*+')++|-?[0-9][0-9.]*+(?:[eE][-+]?[0-9]++)?|NULL|true|false|DEFAULT)"
_TUPLE = rb"\(" + _ITEM + rb"(?:, " + _ITEM + rb")*+\)"
INSERTS = re.compile(
    rb"(?:INSERT INTO " + _NAME + rb"(?:\." + _NAME + rb")?+"
    rb"(?: \(" + _NAME + rb"(?:, " + _NAME + rb")*+\))?+(?: OVERRIDING SYSTEM VALUE)?+"
    rb" VALUES\s++" + _TUPLE + rb"(?:,\s*+" + _TUPLE + rb")*+(?: ON CONFLICT DO NOTHING)?+;\n++)++"
)


def tokens(text: bytes) -> Iterator[tuple[str, bytes]]:
    """The tokens of one statement as (kind, value), without comments and white space.

    Kinds: `word` (lower case), `name` (a quoted identifier, unquoted), `string` (its value), `number`, `dollar`
    (a dollar-quoted body with its tags), `other` (one character), `odd`: what is not taken apart here, namely
    E'' and U&"".
    """
    position = 0
    while found := _TOKEN.match(text, position):
        position = found.end()
        kind, value = str(found.lastgroup), found.group()
        if kind == "comment":
            depth = 1
            while depth and (part := _COMMENT_PART.search(text, position)):
                depth += 1 if part.group() == b"/*" else -1
                position = part.end()
        elif kind == "dollar":
            end = text.find(value, position)
            position = end + len(value) if end >= 0 else len(text)
            yield kind, text[found.start() : position]
        elif kind == "name":
            yield kind, value[1:-1].replace(b'""', b'"')
        elif kind == "string":
            yield (kind, value[1:-1].replace(b"''", b"'")) if value[0] == 0x27 else ("odd", value)
        elif kind in ("escaped", "unicode"):
            yield "odd", value
        elif kind != "skip":
            yield kind, value.lower() if kind == "word" else value

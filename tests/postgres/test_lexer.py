"""Where statements end, and that the size of the blocks never matters."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resurgam.errors import DamagedError, HostileError
from resurgam.postgres.lexer import Lexer


@dataclass
class Told:
    """Everything a lexer told; stretches of INSERTs are joined, since they depend on the blocks."""

    lexer: Lexer | None = None
    events: list[tuple[object, ...]] = field(default_factory=list)

    def statement(self, text: bytes, offset: int, line: int, head: tuple[bytes, ...]) -> bool:
        self.events.append(("statement", text, offset, line))
        if text.startswith(b"SET escapes"):
            assert self.lexer is not None
            self.lexer.escapes = b"on" in text
        return head[:1] == (b"copy",)

    def inserts(self, offset: int, length: int, line: int) -> None:
        self.events.append(("inserts", offset, length, line))

    def comment(self, text: bytes) -> None:
        self.events.append(("comment", text))

    def meta(self, text: bytes, line: int) -> None:
        self.events.append(("meta", text, line))

    def copied(self, offset: int, length: int, rows: int) -> None:
        self.events.append(("copied", offset, length, rows))

    def statements(self) -> list[bytes]:
        return [event[1] for event in self.events if event[0] == "statement"]  # type: ignore[misc]


def lex(*blocks: bytes, stretches: bool = False) -> Told:
    told = Told()
    told.lexer = Lexer(told, stretches=stretches)
    for block in blocks:
        told.lexer.feed(block)
    told.lexer.finish()
    return told


# One statement each: only the last semicolon ends it.
WHOLE = [
    b"SELECT 1;",
    b"SELECT ';', \"a;b\", ';'';';",
    b"SELECT '\\';",
    b"SELECT E'\\';', e'\\\\', E''';';",
    b"SELECT E'a'\n  'it\\'s;' -- x'\n  ';\\'';",
    b"SELECT E'a' -- no ' quote\n ';\\'' ;",
    b"SELECT 'a'\n'\\', ';';",
    b"SELECT U&'\\0061', U&\"d\\0061;\";",
    b"SELECT type'\\', ';';",
    b"SELECT B'01;', x'ff;', N';';",
    b"SELECT $$;'$$, $a$;$$;$b$;$a$;",
    b"SELECT $a$ $a $b$ a$ $$a$;",
    b"SELECT a$b$c, d$$ FROM t;",
    b"SELECT 1$a$;$a$;",
    b"SELECT $1, $2$$;$$;",
    b"SELECT $\xc3\xa4$;$\xc3\xa4$;",
    b"SELECT \xc3\xa4$x$ FROM a$x$;",
    b"SELECT /* ; /* ' */ ; */ 1 /**/;",
    b"SELECT 1 -- ; '\n;",
    b"SELECT 1 -- x\r'; ';",
    b"SELECT 5 - 3 / 2 -\n-1;",
    b"CREATE RULE r AS ON DELETE TO t DO ALSO (SELECT 1; SELECT 2;);",
    b"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END;",
    b"CREATE OR REPLACE PROCEDURE p() LANGUAGE sql BEGIN /* ; */\n atomic SELECT 1; "
    b"SELECT CASE WHEN (CASE WHEN a THEN b END) THEN CASE 1 WHEN 2 THEN 3 END END; END;",
    b'CREATE FUNCTION "begin"(atomic int) RETURNS int RETURN 1;',
    b"CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1;';",
    b"CREATE TABLE begin (atomic int);",
    b'CREATE TABLE "x\n-- Name: y; Type: TABLE; Schema: s; Owner: o\n;" ();',
]


@pytest.mark.parametrize("text", WHOLE, ids=range(len(WHOLE)))
def test_one_statement(text: bytes) -> None:
    assert lex(text + b"\nSELECT 'next';\n").statements() == [text, b"SELECT 'next';"]


def test_every_split_of_tricky_statements_tells_the_same() -> None:
    for text in WHOLE:
        script = text + b"\n-- comment\nSELECT 'next';\n"
        expected = lex(script).events
        for cut in range(len(script)):
            assert lex(script[:cut], script[cut:]).events == expected, (text, cut)
        assert lex(*(bytes([byte]) for byte in script)).events == expected


def test_plain_quotes_escape_when_the_script_says_so() -> None:
    told = lex(b"SET escapes on;SELECT '\\';', B'\\';SELECT U&\"\\\";SET escapes off;SELECT '\\';SELECT 2;")
    assert told.statements()[1:] == [
        b"SELECT '\\';', B'\\';",
        b'SELECT U&"\\";',
        b"SET escapes off;",
        b"SELECT '\\';",
        b"SELECT 2;",
    ]


def test_copy_data_is_counted_and_never_lexed() -> None:
    script = b"COPY t (a) FROM stdin;\n1\t'\n\\\\.\n\\.x\n\\N\n\\.\nSELECT 1;COPY z FROM stdin; \r\n\r\n\r\n\\.\r\n"
    expected = lex(script)
    assert expected.events == [
        ("statement", b"COPY t (a) FROM stdin;", 0, 1),
        ("copied", 23, 15, 4),
        ("statement", b"SELECT 1;", 41, 7),
        ("statement", b"COPY z FROM stdin;", 50, 7),
        ("copied", 71, 4, 2),
    ]
    for cut in range(len(script)):
        assert lex(script[:cut], script[cut:]).events == expected.events


def test_empty_copy_has_no_rows() -> None:
    assert lex(b"COPY t FROM stdin;\n\\.\n").events[1] == ("copied", 19, 0, 0)


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1 \\gset\n",
        b"SELECT 1; \\! id\n",
        b"\t\\! id\n",
        b"/* */ \\! id\n",
        b"COPY t FROM stdin; SELECT 1;\n\\.\n",
        b"COPY t FROM stdin;;\n\\.\n",
        b"COPY t FROM stdin; -- x\n\\.\n",
    ],
)
def test_refused(text: bytes) -> None:
    with pytest.raises(HostileError, match="Line 1 of the dump is refused"):
        lex(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"SELECT 'x", "a quoted string"),
        (b"SELECT $$;", "a quoted string"),
        (b"SELECT /* ;", "a comment"),
        (b"SELECT 1", "a statement"),
        (b"\n\nCOPY t FROM stdin;\n1\n", "COPY data that begins at line 3"),
        (b"COPY t FROM stdin;", "COPY data"),
        (b"COPY t FROM stdin;\n1\n\\.", "COPY data"),
    ],
)
def test_cut_off(text: bytes, what: str) -> None:
    with pytest.raises(DamagedError, match=what):
        lex(text)


def test_a_nul_byte_is_damage() -> None:
    with pytest.raises(DamagedError, match="NUL byte at offset 3"):
        lex(b"SE", b"L\0ECT 1;")


INSERTS = [
    b"INSERT INTO public.t VALUES (1, 'a;''b', NULL, -2.5e-3, true);\n",
    b'INSERT INTO s."T;x" (a, "b;") OVERRIDING SYSTEM VALUE VALUES (1, \'\\\');\n\n',
    b"INSERT INTO t VALUES\n\t(1, 'x'),\n\t(2, 'y') ON CONFLICT DO NOTHING;\n",
    b"INSERT INTO t VALUES (E'\\';', (1));\n",
    b"INSERT INTO t SELECT ';';\n",
    b"INSERT INTO t VALUES (1); -- x\n",
]


def spans(told: Told) -> list[tuple[int, int]]:
    """Where each statement or stretch of INSERTs begins and ends, stretches cut at their lines' ends."""
    return [(e[1], e[1] + e[2]) for e in told.events if e[0] == "inserts"]  # type: ignore[misc, operator]


@given(st.lists(st.sampled_from(INSERTS), max_size=8))
def test_stretches_end_where_statements_end(parts: list[bytes]) -> None:
    script = b"".join(parts)
    ends = {e[2] + len(e[1]) for e in lex(script).events if e[0] == "statement"}  # type: ignore[operator, arg-type]
    fast = lex(script, stretches=True)
    for start, end in spans(fast):
        assert len(script[:end].rstrip()) in ends
        assert script[start:].startswith(b"INSERT INTO")
    covered = sum(end - start for start, end in spans(fast)) + sum(len(text) for text in fast.statements())
    assert covered >= len(script) - script.count(b"\n") - script.count(b"-- x") * 5


WORDS = rb"""' " $ $$ $a$ a E' e -- /* */ - / ( ) ; 1 BEGIN ATOMIC END CASE CREATE FUNCTION \ U&' COPY;""".split()
PIECES = st.sampled_from([*WORDS, b"\n", b" ", b"\r", b"\xc3\xa4", b"\\.\n", b";\n", b"COPY t FROM stdin;\n"])


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=40), st.lists(st.integers(1, 9), max_size=60))
def test_blocks_of_any_size_tell_the_same(pieces: list[bytes], sizes: list[int]) -> None:
    script = b"".join(pieces)
    blocks, start = [], 0
    for size in sizes:
        blocks.append(script[start : start + size])
        start += size
    blocks.append(script[start:])
    assert outcome(*blocks) == outcome(script)


def outcome(*blocks: bytes) -> object:
    told = Told()
    told.lexer = Lexer(told)
    try:
        for block in blocks:
            told.lexer.feed(block)
        told.lexer.finish()
    except (HostileError, DamagedError) as error:
        return told.events, str(error)
    return told.events

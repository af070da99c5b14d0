"""Outlines: the same script and the same rows with less reading, and no way to smuggle anything past the lexer.

Sentences are those of docs/archive-format.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import psycopg
import pytest

from resurgam.errors import DamagedError, ResurgamError
from resurgam.postgres.embedded import EmbeddedServer
from resurgam.postgres.loadcheck import read_facts
from resurgam.postgres.loader import LoadOptions, LoadReport, load
from resurgam.postgres.outline import SMALLEST, Outlined, outline_of, parse_outline, scan_by_outline
from resurgam.postgres.script import CopyBlock, Script, Statement
from tests import clusters
from tests.clusters import Database
from tests.postgres.dumps import NASTY, BytesDump, fill, pg_dump, scan

END = b"--\n-- PostgreSQL database dump complete\n--\n\n"
ROW = b"%d\t" + b"x" * 90 + b"\n"
ROWS = b"".join(ROW % n for n in range(3000))
HEAD = b"CREATE TABLE public.t (id int, body text);\n\nCOPY public.t (id, body) FROM stdin;\n"
TAIL = b"\\.\n\n\nCREATE TABLE public.after (id int);\n\n" + END
DUMP = HEAD + ROWS + TAIL
WHOLE = Outlined(len(HEAD), len(ROWS), 3000)


@dataclass(frozen=True)
class CountedDump(BytesDump):
    """A dump that knows what was read of it."""

    read: list[int] = field(default_factory=list)

    def blocks(self, offset: int, length: int) -> Iterator[bytes]:
        for block in super().blocks(offset, length):
            self.read.append(len(block))
            yield block


def outlined(data: bytes, *blocks: Outlined, block: int = 5000) -> Script:
    return scan_by_outline(BytesDump(data, block), blocks, lambda count: None)


def unseen(script: Script) -> Script:
    return replace(script, items=tuple(replace(i, seen=True) if isinstance(i, CopyBlock) else i for i in script.items))


def load_outlined(server: EmbeddedServer, name: str, data: bytes, script: Script) -> LoadReport:
    with psycopg.connect(server.dsn(name)) as connection:
        facts = read_facts(connection)
    return load(script, BytesDump(data), lambda: psycopg.connect(server.dsn(name)), LoadOptions(facts))


def test_sentence_22_what_is_large_is_outlined() -> None:
    script = scan(DUMP)
    assert len(ROWS) > SMALLEST
    assert outline_of(script) == [[WHOLE.offset, WHOLE.length, WHOLE.rows]]
    assert parse_outline(outline_of(script), len(DUMP)) == (WHOLE,)
    assert outline_of(scan(HEAD + ROWS[: len(ROW % 0)] + TAIL)) == []
    assert parse_outline([], 10) == ()


def test_sentence_23_a_real_dump_gives_the_same_script_however_much_is_skipped(
    pg: EmbeddedServer, database: Database
) -> None:
    fill(pg, database.name, NASTY)
    dump = pg_dump(pg, database.name, "-v")
    script = scan(dump)
    blocks = [Outlined(i.offset, i.length, i.rows) for i in script.items if isinstance(i, CopyBlock) and i.rows]
    assert len(blocks) > 10
    chosen = random.Random(4)
    for share in (1, 3):
        some = [block for block in blocks if chosen.randrange(share) == 0]
        for size in (37, 5000):
            counted = CountedDump(dump, size)
            found = scan_by_outline(counted, some, lambda count: None)
            assert unseen(found) == script
            assert sum(not i.seen for i in found.items if isinstance(i, CopyBlock)) == len(some)
            assert sum(counted.read) == len(dump) - sum(block.length for block in some)
    target = clusters.create_database(pg, prefix=database.name)
    report = load_outlined(pg, target.name, dump, outlined(dump, *blocks))
    assert report.rows == script.rows
    with psycopg.connect(pg.dsn(target.name)) as connection:
        assert connection.execute("SELECT count(*) FROM app.a").fetchone() == (script.rows["app", "a"],)


@pytest.mark.parametrize(
    "block",
    [
        replace(WHOLE, offset=WHOLE.offset + 1, length=WHOLE.length - 1),
        replace(WHOLE, offset=WHOLE.offset - 1),
        replace(WHOLE, length=WHOLE.length - 1),
        replace(WHOLE, length=WHOLE.length + 1),
        replace(WHOLE, length=WHOLE.length + 3),
        replace(WHOLE, length=WHOLE.length - len(ROW % 2999)),
        replace(WHOLE, length=len(DUMP) - WHOLE.offset - 1),
        replace(WHOLE, offset=5, length=20, rows=1),
        replace(WHOLE, offset=len(DUMP) - 30, length=5, rows=1),
        replace(WHOLE, offset=WHOLE.offset + len(ROW % 0), length=WHOLE.length - len(ROW % 0)),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 5000, 1 << 20])
def test_sentence_23_data_must_begin_and_end_where_the_outline_says(block: Outlined, size: int) -> None:
    assert unseen(outlined(DUMP, WHOLE, block=size)) == scan(DUMP)
    with pytest.raises(DamagedError, match="not what its outline says"):
        outlined(DUMP, block, block=size)


def test_sentence_23_a_statement_can_not_hide_in_skipped_data() -> None:
    """A COPY in a string or a comment is none, and what follows no COPY is no data."""
    for start in (
        b"SELECT 'COPY public.t FROM stdin;\n",
        b"/* COPY public.t FROM stdin;\n",
        b"$a$ COPY t FROM stdin;\n",
    ):
        data = start + b"DROP TABLE t;\n\\.\n'*/$a$;\n" + END
        with pytest.raises(DamagedError):
            outlined(data, Outlined(len(start), len(b"DROP TABLE t;\n"), 1))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "all of it",
        [[1, 2]],
        [[1, 2, 3, 4]],
        [[1.0, 2, 1]],
        [[True, 2, 1]],
        [[0, 2, 1]],
        [[-5, 2, 1]],
        [[5, 0, 0]],
        [[5, -1, 1]],
        [[5, 3, 4]],
        [[5, 10, 0]],
        [[5, 10, 1], [10, 10, 1]],
        [[50, 10, 1], [10, 10, 1]],
        [[5, 95, 1]],
        [[5, 1 << 70, 1]],
        [[101, 1, 1]],
    ],
)
def test_sentence_24_an_impossible_outline_is_refused(value: object) -> None:
    with pytest.raises(DamagedError, match="impossible"):
        parse_outline(value, 100)


HIDDEN = b"\\.\nCREATE TABLE public.hidden (id int);\nCOPY public.t (id, body) FROM stdin;\n"


@pytest.mark.parametrize(
    "data",
    [
        ROWS[:200_000].rpartition(b"\n")[0] + b"\n" + HIDDEN + ROWS[-500:].partition(b"\n")[2],
        HIDDEN + ROWS,
        ROWS + HIDDEN,
        ROWS + HIDDEN.replace(b"\\.\n", b"\\.\r\n"),
        ROWS.replace(b"x\n", b"\0\n", 1),
        ROWS + b"cut\tshort",
    ],
    ids=["middle", "first", "last", "carriage return", "nul", "no line end"],
)
@pytest.mark.parametrize("size", [1000, 4999, 1 << 20])
def test_sentence_25_data_that_are_not_the_outlines_are_never_loaded(
    pg16: EmbeddedServer, database: Database, data: bytes, size: int
) -> None:
    """Whatever the outline claims: the load fails, and no statement among the data has been executed."""
    dump = HEAD + data + TAIL
    script = outlined(dump, Outlined(len(HEAD), len(data), data.count(b"\n")), block=size)
    assert not any(b"hidden" in item.text for item in script.items if isinstance(item, Statement))
    with pytest.raises(DamagedError, match=r"the table public\.t .* are not what the dump's outline says"):
        load_outlined(pg16, database.name, dump, script)
    with psycopg.connect(pg16.dsn(database.name)) as connection:
        tables = connection.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert ("hidden",) not in tables
        assert connection.execute("SELECT count(*) FROM public.t").fetchone() == (0,)


@pytest.mark.parametrize("rows", [1, 2999, 3001, len(ROWS)])
def test_sentence_25_rows_are_counted_while_they_are_sent(pg16: EmbeddedServer, database: Database, rows: int) -> None:
    with pytest.raises(DamagedError, match="not what the dump's outline says"):
        load_outlined(pg16, database.name, DUMP, outlined(DUMP, replace(WHOLE, rows=rows)))


def test_sentence_25_an_end_is_found_across_pieces(pg16: EmbeddedServer, database: Database) -> None:
    """Wherever the reader's pieces are cut."""
    from resurgam.postgres.outline import checked_data

    data = b"1\ta\n\\.\r\nDROP TABLE t;\n2\tb\n"
    block = next(
        i for i in outlined(HEAD + data + TAIL, Outlined(len(HEAD), len(data), 4)).items if isinstance(i, CopyBlock)
    )
    for first in range(len(data)):
        for second in range(first, len(data)):
            with pytest.raises(DamagedError):
                list(checked_data(block, [p for p in (data[:first], data[first:second], data[second:]) if p]))
    with pytest.raises(ResurgamError):
        list(checked_data(block, [data[i : i + 1] for i in range(len(data))]))

"""Both ways to the end of COPY data find the same, wherever the data are cut."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from resurgam.postgres.copy_end import CUT, end_of_data
from resurgam.postgres.lexer import Lexer
from tests.postgres.test_lexer import Told

_PARTS = [b"\n", b"\\.", b"\\.\n", b"\n\\.\n", b"\n\\.\r\n", b"\\N", b"\r", b"x", b".", b"a\tb"]
PIECES = st.lists(st.sampled_from(_PARTS))


@given(PIECES.map(b"".join), st.integers(0, 5))
@example(b"\n\\.\n", 0)
@example(b"x\n\\.\r", 0)
@settings(max_examples=500, deadline=None)
def test_both_ways_find_the_same(data: bytes, start: int) -> None:
    start = min(start, len(data))
    cut = CUT.search(data, max(start, len(data) - 4))
    limit = cut.start() if cut else len(data)
    ways = [end_of_data(data, start, limit, long_rows=long_rows) for long_rows in (False, True)]
    spans = [(None if found is None else found.span(), rows) for found, rows in ways]
    assert spans[0] == spans[1]


@given(
    st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    st.lists(st.integers(1, 1500), max_size=30),
    st.sampled_from([b"\n", b"\r\n"]),
)
@settings(max_examples=200, deadline=None)
def test_rows_of_any_length_are_counted_in_blocks_of_any_size(rows: list[int], sizes: list[int], end: bytes) -> None:
    lines = b"".join(b"\\\\." + b"r" * length + b"\n" for length in rows)
    script = b"COPY t FROM stdin;\n" + lines + b"\\." + end + b"SELECT 1;"
    told = Told()
    seen = bytearray()
    told.lexer = Lexer(told, on_data=seen.extend)
    start = 0
    for size in (*sizes, len(script)):
        told.lexer.feed(script[start : start + size])
        start += size
    told.lexer.finish()
    assert bytes(seen) == lines
    assert [event[1:] for event in told.events if event[0] == "copied"] == [(19, len(lines), len(rows))]

"""Where COPY data end: at the line `\\.`, and how many lines there are before it."""

from __future__ import annotations

import re

Buffer = bytes | bytearray

MARK = re.compile(rb"\n\\\.\r?\n")
# What may be the beginning of a mark at a block's end; a line end among it.
CUT = re.compile(rb"\n(?:\\(?:\.\r?)?)?\Z")
LONGEST = len(b"\n\\.\r\n")
# Bytes of a row from which on its line ends are sought one by one.
_LONG_ROW = 400
_BACKSLASH = 0x5C


def end_of_data(data: Buffer, start: int, limit: int, *, long_rows: bool) -> tuple[re.Match[bytes] | None, int]:
    """The mark, if it begins before `limit`, and the count of line ends from `start` to it and with its own.

    `limit` is where CUT is found, or else the data's length. Where rows are long it is quicker to go from one to the
    next than to look at each byte twice (measured: 0.2 s instead of 0.7 for 650 MB); both ways find the same.
    """
    if not long_rows:
        found = MARK.search(data, start)
        return found, data.count(b"\n", start, limit if found is None else found.start() + 1)
    rows, at = 0, data.find(b"\n", start, limit)
    while at >= 0:
        rows += 1
        if data[at + 1] == _BACKSLASH and (found := MARK.match(data, at)):
            return found, rows
        at = data.find(b"\n", at + 1, limit)
    return None, rows


def are_long(rows: int, length: int) -> bool:
    """Whether rows are so long that it pays to go from one to the next."""
    return length > rows * _LONG_ROW

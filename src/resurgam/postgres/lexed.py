"""What the lexer tells of a dump, and how it refuses one."""

from __future__ import annotations

from typing import Protocol

from resurgam.errors import DamagedError, HostileError


class Sink(Protocol):
    """What a lexer tells."""

    def statement(self, text: bytes, offset: int, line: int, head: tuple[bytes, ...]) -> bool:
        """A statement with its semicolon; `head` its first words in lower case. True: COPY data follows."""

    def inserts(self, offset: int, length: int, line: int) -> None:
        """A stretch of whole INSERT statements."""

    def comment(self, text: bytes) -> None:
        """A `--` comment between two statements, without its line end."""

    def meta(self, text: bytes, line: int) -> None:
        """A line between two statements that begins with a backslash."""

    def copied(self, offset: int, length: int, rows: int) -> None:
        """The COPY data has ended; `length` is without the line `\\.`."""


def refused_backslash(line: int) -> HostileError:
    """The refusal of anything that psql would take for one of its own commands."""
    return HostileError(
        f"Line {line} of the dump is refused: it holds a backslash command of psql, which could run programs.",
        "pg_dump writes none but \\restrict, \\unrestrict and \\connect to the dump's own database; restore only dumps "
        "whose origin you know.",
    )


def cut_within(line: int, what: str) -> DamagedError:
    return DamagedError(
        f"The dump is incomplete: it ends within {what} that begins at line {line}.",
        "Restore another backup of this database.",
    )


def not_as_outlined(line: int) -> DamagedError:
    return DamagedError(
        f"The dump is not what its outline says: the table data after line {line} do not begin and end there.",
        "Restore another backup of this database.",
    )

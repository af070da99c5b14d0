"""How an operation tells how far it is; the faces draw it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Phases one after the other, bytes within them."""

    def phase(self, text: str, total: int | None = None) -> None:
        """A new phase begins; `total` is its expected bytes, None if nobody knows."""

    def advance(self, count: int) -> None:
        """So many bytes more are done; called from any thread."""


class Silent:
    """For callers who watch nothing."""

    def phase(self, text: str, total: int | None = None) -> None: ...

    def advance(self, count: int) -> None: ...

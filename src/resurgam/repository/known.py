"""The last backup's records by their prints: what need not be read again if it is still the same (sentence 20)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile

from resurgam.repository.records import NO_PRINT, bodies, may_stand, record_head


class KnownRecords:
    """Holds a place in a temporary file for each record, so that memory grows by 100 bytes a run and not by its names.

    The file has no name: it ends with the process, and what it holds (names of files, never their content) is never
    seen by others.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._places: dict[bytes, tuple[int, int, int]] = {}
        self._end = 0

    def fill(self, blocks: Iterable[bytes]) -> None:
        """Take in a list's bytes. DamagedError if they are none; what came before it stays."""
        for body in bodies(blocks):
            mark, day = record_head(body)
            if mark == NO_PRINT:
                continue
            self._file.write(body)
            self._places[mark] = (self._end, len(body), day)
            self._end += len(body)

    def find(self, mark: bytes, today: int) -> bytes | None:
        """The record of that print, without its length, if it may stand for its files today."""
        place = self._places.get(mark)
        if place is None or not may_stand(place[2], today):
            return None
        self._file.seek(place[0])
        return self._file.read(place[1])

    def __len__(self) -> int:
        return len(self._places)

    def close(self) -> None:
        self._file.close()

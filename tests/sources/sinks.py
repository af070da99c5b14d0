"""A sink that keeps what it gets, and checks the one promise a source makes to it."""

from __future__ import annotations

from collections.abc import Iterable

from resurgam.archive.entry import Entry, Kind, Offer


class KeptEntries:
    def __init__(self) -> None:
        self.order: list[Entry] = []
        self.content: dict[bytes, bytes] = {}

    def add(self, entry: Entry, blocks: Iterable[bytes] = ()) -> None:
        data = b"".join(blocks)
        assert len(data) == entry.size
        assert entry.path not in self.content
        self.order.append(entry)
        self.content[entry.path] = data

    def offer(self, offered: Offer) -> None:
        if (got := offered.read()) is not None:
            self.add(*got)
            offered.changed()

    def settle(self) -> None:
        pass

    def __getitem__(self, path: bytes) -> Entry:
        return next(entry for entry in self.order if entry.path == path)

    def paths(self, kind: Kind | None = None) -> list[bytes]:
        return [entry.path for entry in self.order if kind in (None, entry.kind)]

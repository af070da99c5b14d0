"""Reads sealed texts from a store, and never more of one than the longest that a writer makes (sentence 9).

What lies in a store is anybody's until it is authenticated, and nothing can be authenticated before it was read.
"""

from __future__ import annotations

from resurgam.repository.layout import (
    checked_key,
    damage_key,
    index_key,
    intent_key,
    manifest_key,
    outcome_key,
    record_key,
    tombstone_key,
)
from resurgam.repository.sealing import Header, Kind, Opener, refuse
from resurgam.stores.objects import ObjectStore

_KEYS = {
    Kind.INDEX: index_key,
    Kind.MANIFEST: manifest_key,
    Kind.OUTCOME: outcome_key,
    Kind.TOMBSTONE: tombstone_key,
    Kind.RECORD: record_key,
    Kind.DAMAGE: damage_key,
    Kind.CHECKED: checked_key,
    Kind.INTENT: intent_key,
}
# Bytes of a whole object. A manifest's metadata have 16 MiB at most, an index of ours 13 MiB.
_LONG, _SHORT = 64 << 20, 64 << 10
_SHORT_ONES = frozenset({Kind.OUTCOME, Kind.TOMBSTONE, Kind.INTENT})


def longest(kind: Kind) -> int:
    """How many bytes an object of that kind may have; no writer makes a longer one, no reader reads one."""
    return _SHORT if kind in _SHORT_ONES else _LONG


def read_object(store: ObjectStore, kind: Kind, object_id: bytes) -> bytes:
    """A whole sealed text, unopened. ObjectMissing; DamagedError if it is too long, with no more read than allowed."""
    data = store.get(_KEYS[kind](object_id), 0, longest(kind) + 1)
    if len(data) > longest(kind):
        refuse(kind, object_id, "it is longer than any that is written")
    return data


def read_text(store: ObjectStore, opener: Opener, kind: Kind, object_id: bytes) -> tuple[Header, bytes]:
    """Its checked header and its plaintext. ObjectMissing, and what Opener raises."""
    data = read_object(store, kind, object_id)
    header = opener.text_header(kind, object_id, data)
    return header, b"".join(opener.open_pieces(header, data))

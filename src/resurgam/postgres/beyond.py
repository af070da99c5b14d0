"""Which statements of a dump reach beyond the database that is loaded: never executed, and told with their lines.

pg_dump of one database writes none of them. What functions, DO blocks and INSERTs do when they run can't be known from
what they say; docs/threat-model.md says so.
"""

from __future__ import annotations

import re
from itertools import islice

from resurgam.postgres.tokens import tokens

# What statements that begin so do, they do outside of the database that is loaded, or forbid dropping it.
_BEYOND = (
    (b"alter", b"system"),
    (b"prepare", b"transaction"),
    (b"commit", b"prepared"),
    (b"rollback", b"prepared"),
    (b"reassign", b"owned"),
    (b"drop", b"owned"),
    (b"load",),
)
_OF_THE_SERVER = frozenset({b"database", b"role", b"user", b"group", b"tablespace", b"parameter"})
_ASKS = frozenset({b"select", b"with", b"values", b"call", b"explain", b"table"})
# Functions that read or write files of the server, reach other servers, or touch what belongs to the whole server.
_REACHING = re.compile(
    rb"lo_(?:import|export)|pg_read_(?:binary_)?file|pg_ls_\w+|pg_stat_file|pg_file_\w+|dblink\w*|pg_terminate_backend"
    rb"|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile\w*|pg_promote|pg_(?:create|copy|drop)_\w*replication_slot"
    rb"|pg_replication_origin_\w+|pg_switch_wal|pg_create_restore_point|(?:database|table|query)_to_xml\w*"
)


def reaches_beyond(text: bytes) -> bool:
    """Whether a statement is plainly about the whole server, its files, or other servers."""
    words = tuple(word for kind, word in islice(tokens(text), 4) if kind == "word")
    first = words[:1]
    if any(words[: len(begins)] == begins for begins in _BEYOND):
        return True
    if first in ((b"create",), (b"alter",), (b"drop",)):
        if words[1:2] == (b"subscription",):
            return _connects(text)
        return words[1:2] != () and words[1] in _OF_THE_SERVER and words[2:3] != (b"mapping",)
    if first in ((b"grant",), (b"revoke",)):
        return _grants_beyond(text)
    return (
        bool(first)
        and first[0] in _ASKS
        and any(kind in ("word", "name") and _REACHING.fullmatch(word) for kind, word in tokens(text))
    )


def _connects(text: bytes) -> bool:
    """Whether a statement about a subscription makes the server connect: pg_dump's say `connect = false`."""
    found = list(tokens(text))
    if found[0] == ("word", b"create"):
        return not any(
            found[at : at + 2] == [("word", b"connect"), ("other", b"=")]
            and found[at + 2][1].strip(b"'").lower() in (b"false", b"off", b"0")
            for at in range(len(found) - 2)
        )
    return found[0] == ("word", b"alter") and ("word", b"owner") not in found[3:4]


def _grants_beyond(text: bytes) -> bool:
    """Whether it grants membership in a role, or rights on what belongs to the whole server."""
    found = list(tokens(text))
    at = next((i for i, token in enumerate(found) if token == ("word", b"on")), None)
    return at is None or (
        found[at + 1 : at + 2] != []
        and found[at + 1][1] in _OF_THE_SERVER
        and (found[at + 1][0] == "word" and found[at + 2 : at + 3] not in ([("word", b"to")], [("word", b"from")]))
    )

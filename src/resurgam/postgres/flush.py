"""Makes commits durable that did not wait for the disk: ours while loading, all where the server's settings say so.

A crash of the server takes such commits back and leaves what we do afterwards; so whoever relies on them flushes in the
session that made them. If that still answers, no crash came in between.

`pg_current_xact_id()` does not do it: a transaction that wrote nothing to the log does not wait for it either (seen on
16: the rows before it were lost in a crash).
"""

from __future__ import annotations

from typing import Any

import psycopg

from resurgam.errors import RestoreFailed

# For the simple protocol: both are one transaction. A standby that is down must not hold it up.
FLUSH = b"SET synchronous_commit = local; SELECT pg_catalog.pg_logical_emit_message(true, 'resurgam', '')"
# Within a transaction, for that alone; whatever waits for more than this disk stays as it is.
WAIT_FOR_DISK = (
    b"SELECT pg_catalog.set_config('synchronous_commit', 'local', true)"
    b" WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
)


def flush(connection: psycopg.Connection[Any]) -> None:
    """Make durable what was committed while this session lived. RestoreFailed if it does not live any more."""
    try:
        connection.execute(FLUSH)
    except psycopg.Error as error:
        raise not_durable(error) from None


def not_durable(error: psycopg.Error) -> RestoreFailed:
    """What a flush that failed says."""
    reason = " ".join((error.diag.message_primary or str(error)).split()).rstrip(".")
    return RestoreFailed(
        f"The server could not make durable what was loaded ({reason}); what was live before is untouched."
    )

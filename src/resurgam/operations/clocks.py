"""Do the clocks agree? Age deletes backups only where this machine, the server and the folder are within an hour."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta

from resurgam.clock import Clock
from resurgam.errors import DatabaseError, StorageError
from resurgam.postgres.connection import Server

TOLERANCE = timedelta(hours=1)
DIFFER = (
    "The clocks of this machine, the database server and the disk differ by more than an hour: age deleted nothing."
)


def clocks_agree(clock: Clock, stored: Callable[[], float], server: Server, *, dry_run: bool = False) -> bool:
    """Ask all three; `stored` is the clock of where the backups are, in seconds since 1970.

    A server that can't be reached has no say: a full disk must be prunable while it is down. Nor, in a dry run, has a
    disk that is read-only: a folder tells the time by a file that is written there.
    """
    try:
        if abs(timedelta(seconds=stored() - clock.now().timestamp())) > TOLERANCE:
            return False
    except StorageError:
        if not dry_run:
            raise
    try:
        with closing(server.connect()) as session:
            row = session.execute("SELECT clock_timestamp()").fetchone()
    except DatabaseError:
        return True
    moment = row[0] if row else None
    return isinstance(moment, datetime) and abs(moment - clock.now()) <= TOLERANCE

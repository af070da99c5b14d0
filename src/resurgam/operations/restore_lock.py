"""Keeps backups of the live database away while it is replaced."""

from __future__ import annotations

from contextlib import ExitStack, closing

from resurgam.errors import DatabaseError
from resurgam.operations.backup import Application
from resurgam.postgres.connection import refuse_pooler
from resurgam.postgres.snapshot import Connection, application_lock
from resurgam.postgres.swap import database_oid, maintenance_server


def lock_database(application: Application, locks: ExitStack) -> Connection | None:
    """The session that holds the application's lock until `locks` are closed; None if nobody can have it.

    That is so where there is no live database, or it lets nobody in: it can't be backed up meanwhile either, and is
    what a restore is for (the manual's scenario 2). The folder's lock is held in any case. BusyError if another run
    has the lock.
    """
    server = application.server.named()
    maintenance = maintenance_server(server)
    with closing(maintenance.connect()) as session:
        refuse_pooler(session, maintenance)
        exists = database_oid(session, str(server.database.name)) is not None
    if not exists:
        return None
    try:
        return locks.enter_context(application_lock(server, application.lock_key))
    except DatabaseError:
        return None

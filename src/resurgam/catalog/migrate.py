"""Bring state.sqlite's tables up to schema.STATE_VERSION, by Alembic. Imported only where there is something to do:
Alembic takes longer to import than most commands take to run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from resurgam.catalog.schema import STATE_ID, STATE_VERSION
from resurgam.catalog.sqlite import Database


def migrate(database: Database) -> None:
    """Run what is missing, all of it in one transaction, so that a kill leaves the old version whole.

    Raises sqlite3.Error.
    """
    with database.alone() as raw:
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        # Begun by us: Python's sqlite3 would begin it late and end it before DDL.
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        event.listen(engine, "handle_error", _keep_connection)
        try:
            with engine.begin() as connection:
                # Another process may have done it while we waited for the lock.
                if database.pragma("user_version") != STATE_VERSION:
                    upgrade(connection, "head")
                    connection.exec_driver_sql(f"PRAGMA application_id = {STATE_ID}")
                    connection.exec_driver_sql(f"PRAGMA user_version = {STATE_VERSION}")
        except DBAPIError as error:
            if isinstance(error.orig, sqlite3.Error):
                raise error.orig from error
            raise


def upgrade(connection: Connection, revision: str) -> None:
    """Run the migrations up to that one, in the transaction of the connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _keep_connection(context: ExceptionContext) -> None:
    """SQLAlchemy takes an interrupt within a statement for a lost connection and closes it; it is not its own."""
    context.is_disconnect = False

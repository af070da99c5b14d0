"""Bring state.sqlite's tables up to models.STATE_VERSION, by Alembic. Imported only where there is something to do:
Alembic takes longer to import than most commands take to run."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from resurgam.catalog.models import STATE_ID, STATE_VERSION
from resurgam.catalog.sqlite import Database


def migrate(database: Database) -> None:
    """Run what is missing, all of it in one transaction, so that a kill leaves the old version whole."""
    with database.write() as connection:
        # Another process may have done it while we waited for the lock.
        if database.pragma("user_version") == STATE_VERSION:
            return
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.exec_driver_sql(f"PRAGMA application_id = {STATE_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {STATE_VERSION}")

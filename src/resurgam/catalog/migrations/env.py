"""Alembic's entry for state.sqlite: runs inside the transaction of the connection that `state.py` hands over."""

from __future__ import annotations

from alembic import context

from resurgam.catalog.models import STATE

context.configure(connection=context.config.attributes["connection"], target_metadata=STATE, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()

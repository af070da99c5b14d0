"""The first tables: identity, runs, pins, restore journals.

A migration is never changed once released, so it spells the tables out rather than taking them from models.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("created_us", sa.Integer, nullable=False),
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("started_us", sa.Integer, nullable=False),
        sa.Column("finished_us", sa.Integer),
        sa.Column("outcome", sa.String),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.Column("process", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_unfinished", "runs", ["id"], sqlite_where=sa.text("outcome IS NULL"))
    op.create_table(
        "pins",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("pinned_us", sa.Integer, nullable=False),
    )
    op.create_table(
        "restores",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("process", sa.String, nullable=False),
        sa.Column("started_us", sa.Integer, nullable=False),
        sa.Column("ended_us", sa.Integer),
        sa.Column("outcome", sa.String),
    )
    op.create_table(
        "restore_steps",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("restore_id", sa.String, sa.ForeignKey("restores.id"), nullable=False),
        sa.Column("step", sa.String, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("at_us", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_restore_steps_restore_id", "restore_steps", ["restore_id"])

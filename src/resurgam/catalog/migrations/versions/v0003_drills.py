"""Drills: what each one found, and what it must remove.

A migration is never changed once released, so it spells the table out rather than taking it from models.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "drills",
        sa.Column("id", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("backup", "process")),
        sa.Column("started_us", sa.Integer, nullable=False),
        sa.Column("finished_us", sa.Integer),
        sa.Column("outcome", sa.String),
        *(sa.Column(name, sa.Integer) for name in ("rto_us", "rpo_us")),
        sa.Column("report", sa.Text, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("scratch", sa.Text),
        sqlite_autoincrement=True,
    )

"""The service: runs become jobs, with progress and cancel; tokens, audit log, slots, alerts, channels, signs of life.

A migration is never changed once released, so it spells the tables out rather than taking them from models.py.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _jobs()
    op.create_table(
        "tokens",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("bootstrap", sa.Integer, nullable=False),
        sa.Column("created_us", sa.Integer, nullable=False),
        sa.Column("expires_us", sa.Integer),
        sa.Column("revoked_us", sa.Integer),
        sa.Column("used_us", sa.Integer),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at_us", sa.Integer, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("actor", "role", "origin")),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("action", "target")),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("previous", "digest")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit_head",
        sa.Column("only", sa.Integer, primary_key=True),
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
    )
    op.create_table(
        "slots",
        sa.Column("task", sa.String, primary_key=True),
        sa.Column("slot_us", sa.Integer, primary_key=True),
        sa.Column("claimed_us", sa.Integer, nullable=False),
        sa.Column("job_id", sa.Integer),
    )
    op.create_table(
        "alerts",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("severity", sa.String, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("since_us", "sent_us", "count")),
    )
    op.create_table(
        "channels",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("ok_us", sa.Integer),
        sa.Column("failed_us", sa.Integer),
        sa.Column("problem", sa.Text, nullable=False),
    )
    op.create_table(
        "signs",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("at_us", sa.Integer, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )


def _jobs() -> None:
    op.drop_index("runs_unfinished", "runs")
    op.rename_table("runs", "jobs")
    for column in (
        sa.Column("begun_us", sa.Integer),
        sa.Column("origin", sa.String, nullable=False, server_default="cli"),
        sa.Column("actor", sa.String, nullable=False, server_default=""),
        sa.Column("request", sa.Text, nullable=False, server_default="{}"),
        sa.Column("phase", sa.Text, nullable=False, server_default=""),
        sa.Column("done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("total", sa.Integer),
        sa.Column("cancel_us", sa.Integer),
        sa.Column("alerted_us", sa.Integer),
    ):
        op.add_column("jobs", column)
    # Nobody is to be told now of runs that died long ago.
    op.execute("UPDATE jobs SET begun_us = started_us, alerted_us = finished_us")
    op.create_index("jobs_unfinished", "jobs", ["id"], sqlite_where=sa.text("outcome IS NULL"))
    op.create_index("jobs_by_kind", "jobs", ["kind", "id"])
    op.create_table(
        "job_lines",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job_id", sa.Integer, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("at_us", sa.Integer, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_lines_job_id", "job_lines", ["job_id"])

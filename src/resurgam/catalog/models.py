"""The tables of state.sqlite, as SQLAlchemy knows them: what Alembic's migrations are held against.

For migrations and tests alone: importing SQLAlchemy takes longer than most commands take to run. What runs has the same
tables from schema.py.
"""

from __future__ import annotations

from sqlalchemy import Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

STATE = MetaData()

identity = Table(
    "identity", STATE, Column("id", String, primary_key=True), Column("created_us", Integer, nullable=False)
)
# One row for whatever anyone asked for, by the command line, the API or the schedule, while it waits, runs, and after.
jobs = Table(
    "jobs",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("kind", String, nullable=False),
    Column("target", String, nullable=False),
    Column("started_us", Integer, nullable=False),
    Column("begun_us", Integer),
    Column("finished_us", Integer),
    Column("outcome", String),
    Column("reason", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("process", String, nullable=False),
    Column("origin", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("request", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer),
    Column("cancel_us", Integer),
    Column("alerted_us", Integer),
    sqlite_autoincrement=True,
)
Index("jobs_unfinished", jobs.c.id, sqlite_where=jobs.c.outcome.is_(None))
Index("jobs_by_kind", jobs.c.kind, jobs.c.id)
job_lines = Table(
    "job_lines",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at_us", Integer, nullable=False),
    Column("level", String, nullable=False),
    Column("text", Text, nullable=False),
    sqlite_autoincrement=True,
)
tokens = Table(
    "tokens",
    STATE,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("bootstrap", Integer, nullable=False),
    Column("created_us", Integer, nullable=False),
    Column("expires_us", Integer),
    Column("revoked_us", Integer),
    Column("used_us", Integer),
)
# Append only: each entry bears the digest of the one before it, and `audit_head` the last one's, so that a missing end
# is seen as well.
audit = Table(
    "audit",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("at_us", Integer, nullable=False),
    Column("actor", String, nullable=False),
    Column("role", String, nullable=False),
    Column("origin", String, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", String, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous", String, nullable=False),
    Column("digest", String, nullable=False),
    sqlite_autoincrement=True,
)
audit_head = Table(
    "audit_head",
    STATE,
    Column("only", Integer, primary_key=True),
    Column("id", Integer, nullable=False),
    Column("digest", String, nullable=False),
)
# The primary key is what lets one scheduler of many take a slot.
slots = Table(
    "slots",
    STATE,
    Column("task", String, primary_key=True),
    Column("slot_us", Integer, primary_key=True),
    Column("claimed_us", Integer, nullable=False),
    Column("job_id", Integer),
)
alerts = Table(
    "alerts",
    STATE,
    Column("key", String, primary_key=True),
    Column("severity", String, nullable=False),
    Column("message", Text, nullable=False),
    Column("since_us", Integer, nullable=False),
    Column("sent_us", Integer, nullable=False),
    Column("count", Integer, nullable=False),
)
channels = Table(
    "channels",
    STATE,
    Column("id", String, primary_key=True),
    Column("label", Text, nullable=False),
    Column("ok_us", Integer),
    Column("failed_us", Integer),
    Column("problem", Text, nullable=False),
)
# What the service last saw of itself: its heartbeat, a clock that jumped. By name, the latest only.
signs = Table(
    "signs",
    STATE,
    Column("name", String, primary_key=True),
    Column("at_us", Integer, nullable=False),
    Column("data", Text, nullable=False),
)
pins = Table(
    "pins",
    STATE,
    Column("name", String, primary_key=True),
    Column("pinned_us", Integer, nullable=False),
)
restores = Table(
    "restores",
    STATE,
    Column("id", String, primary_key=True),
    Column("plan", Text, nullable=False),
    Column("process", String, nullable=False),
    Column("started_us", Integer, nullable=False),
    Column("ended_us", Integer),
    Column("outcome", String),
)
restore_steps = Table(
    "restore_steps",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("restore_id", String, ForeignKey("restores.id"), nullable=False, index=True),
    Column("step", String, nullable=False),
    Column("data", Text, nullable=False),
    Column("at_us", Integer, nullable=False),
    sqlite_autoincrement=True,
)
# `outcome` is null while a drill runs; `scratch` is what must be removed after it, null once that is gone.
drills = Table(
    "drills",
    STATE,
    Column("id", Integer, primary_key=True),
    Column("backup", String, nullable=False),
    Column("process", String, nullable=False),
    Column("started_us", Integer, nullable=False),
    Column("finished_us", Integer),
    Column("outcome", String),
    Column("rto_us", Integer),
    Column("rpo_us", Integer),
    Column("report", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("scratch", Text),
    sqlite_autoincrement=True,
)

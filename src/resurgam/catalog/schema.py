"""The tables of catalog.sqlite and state.sqlite, as a new file is given them.

Columns `*_us` are moments (`moments.py`). A change to the state needs a migration, the same change here and in
models.py, and STATE_VERSION + 1; the tests hold the three together. A change to the catalog needs CATALOG_VERSION + 1
and nothing else, for a catalog of another version is thrown away and rebuilt.
"""

from __future__ import annotations

CATALOG_VERSION = 2
STATE_VERSION = 3
# PRAGMA application_id: "RsgC" and "RsgS", by which file(1) and we know our files.
CATALOG_ID = 0x52736743
STATE_ID = 0x52736753

CATALOG = (
    """
    CREATE TABLE copies (
        name VARCHAR NOT NULL,
        location VARCHAR NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        condition VARCHAR NOT NULL,
        problem TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        taken_us INTEGER NOT NULL,
        database_size INTEGER,
        form VARCHAR NOT NULL,
        PRIMARY KEY (name, location)
    ) WITHOUT ROWID
    """,
    # Apart from `copies`, so that a list of thousands of backups reads a few pages rather than all their metadata.
    """
    CREATE TABLE descriptions (
        name VARCHAR NOT NULL,
        location VARCHAR NOT NULL,
        metadata TEXT NOT NULL,
        PRIMARY KEY (name, location)
    )
    """,
)

STATE = (
    # Alembic's own, by which it knows the migration that the tables are of.
    """
    CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL,
        CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
    )
    """,
    f"INSERT INTO alembic_version (version_num) VALUES ('{STATE_VERSION:04}')",
    """
    CREATE TABLE identity (
        id VARCHAR NOT NULL,
        created_us INTEGER NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    # One row for whatever anyone asked for, by the command line, the API or the schedule, while it waits, runs, and
    # after. In the order in which the migrations added the columns, and with the defaults that older rows got.
    """
    CREATE TABLE jobs (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        kind VARCHAR NOT NULL,
        target VARCHAR NOT NULL,
        started_us INTEGER NOT NULL,
        finished_us INTEGER,
        outcome VARCHAR,
        reason TEXT NOT NULL,
        details TEXT NOT NULL,
        process VARCHAR NOT NULL,
        begun_us INTEGER,
        origin VARCHAR DEFAULT 'cli' NOT NULL,
        actor VARCHAR DEFAULT '' NOT NULL,
        request TEXT DEFAULT '{}' NOT NULL,
        phase TEXT DEFAULT '' NOT NULL,
        done INTEGER DEFAULT '0' NOT NULL,
        total INTEGER,
        cancel_us INTEGER,
        alerted_us INTEGER
    )
    """,
    "CREATE INDEX jobs_unfinished ON jobs (id) WHERE outcome IS NULL",
    "CREATE INDEX jobs_by_kind ON jobs (kind, id)",
    """
    CREATE TABLE job_lines (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        job_id INTEGER NOT NULL,
        at_us INTEGER NOT NULL,
        level VARCHAR NOT NULL,
        text TEXT NOT NULL,
        FOREIGN KEY (job_id) REFERENCES jobs (id)
    )
    """,
    "CREATE INDEX ix_job_lines_job_id ON job_lines (job_id)",
    """
    CREATE TABLE tokens (
        id VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        role VARCHAR NOT NULL,
        digest VARCHAR NOT NULL,
        bootstrap INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        expires_us INTEGER,
        revoked_us INTEGER,
        used_us INTEGER,
        PRIMARY KEY (id)
    )
    """,
    # Append only: each entry bears the digest of the one before it, and `audit_head` the last one's, so that a missing
    # end is seen as well.
    """
    CREATE TABLE audit (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        actor VARCHAR NOT NULL,
        role VARCHAR NOT NULL,
        origin VARCHAR NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        outcome VARCHAR NOT NULL,
        details TEXT NOT NULL,
        previous VARCHAR NOT NULL,
        digest VARCHAR NOT NULL
    )
    """,
    """
    CREATE TABLE audit_head (
        only INTEGER NOT NULL,
        id INTEGER NOT NULL,
        digest VARCHAR NOT NULL,
        PRIMARY KEY (only)
    )
    """,
    # The primary key is what lets one scheduler of many take a slot.
    """
    CREATE TABLE slots (
        task VARCHAR NOT NULL,
        slot_us INTEGER NOT NULL,
        claimed_us INTEGER NOT NULL,
        job_id INTEGER,
        PRIMARY KEY (task, slot_us)
    )
    """,
    """
    CREATE TABLE alerts (
        key VARCHAR NOT NULL,
        severity VARCHAR NOT NULL,
        message TEXT NOT NULL,
        since_us INTEGER NOT NULL,
        sent_us INTEGER NOT NULL,
        count INTEGER NOT NULL,
        PRIMARY KEY (key)
    )
    """,
    """
    CREATE TABLE channels (
        id VARCHAR NOT NULL,
        label TEXT NOT NULL,
        ok_us INTEGER,
        failed_us INTEGER,
        problem TEXT NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    # What the service last saw of itself: its heartbeat, a clock that jumped. By name, the latest only.
    """
    CREATE TABLE signs (
        name VARCHAR NOT NULL,
        at_us INTEGER NOT NULL,
        data TEXT NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE pins (
        name VARCHAR NOT NULL,
        pinned_us INTEGER NOT NULL,
        PRIMARY KEY (name)
    )
    """,
    """
    CREATE TABLE restores (
        id VARCHAR NOT NULL,
        plan TEXT NOT NULL,
        process VARCHAR NOT NULL,
        started_us INTEGER NOT NULL,
        ended_us INTEGER,
        outcome VARCHAR,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE restore_steps (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        restore_id VARCHAR NOT NULL,
        step VARCHAR NOT NULL,
        data TEXT NOT NULL,
        at_us INTEGER NOT NULL,
        FOREIGN KEY (restore_id) REFERENCES restores (id)
    )
    """,
    "CREATE INDEX ix_restore_steps_restore_id ON restore_steps (restore_id)",
    # `outcome` is null while a drill runs; `scratch` is what must be removed after it, null once that is gone.
    """
    CREATE TABLE drills (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        backup VARCHAR NOT NULL,
        process VARCHAR NOT NULL,
        started_us INTEGER NOT NULL,
        finished_us INTEGER,
        outcome VARCHAR,
        rto_us INTEGER,
        rpo_us INTEGER,
        report TEXT NOT NULL,
        digest VARCHAR NOT NULL,
        scratch TEXT
    )
    """,
)

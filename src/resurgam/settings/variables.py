"""Every variable, with its default and its meaning: the one table that loading and docs/settings.md follow."""

from __future__ import annotations

from resurgam.settings import parse
from resurgam.settings.repository_variables import ENCRYPTION_GROUP, REPOSITORY_GROUP
from resurgam.settings.service_variables import SERVICE_GROUPS
from resurgam.settings.table import SecretVariable, Variable

APP_NAME = Variable(
    "APP_NAME", parse.app_name, "radiology", "Begins the name of every backup: `NAME_backup_YYYYMMDD_HHMMSS`."
)
APP_DIR = Variable(
    "APP_DIR",
    parse.text,
    "/app",
    "The application's folder. Relative paths in other settings start here. A relative APP_DIR starts at the "
    "current folder or, in `resurgam.toml`, at that file's folder.",
)
BACKUP_ENABLED = Variable(
    "BACKUP_ENABLED", parse.boolean, "true", "If false, `backup` says so and exits 0; restoring still works."
)
BACKUP_DIR = Variable("BACKUP_DIR", parse.text, "/app/backups", "Where archives and the catalog are kept.")
BACKUP_STATE_FILE = Variable(
    "BACKUP_STATE_FILE",
    parse.text,
    "",
    "History, pins and restore journals: what archives can not rebuild. Must be on a local disk.",
    shown="`BACKUP_DIR/state.sqlite`",
)
BACKUP_LOG_FILE = Variable(
    "BACKUP_LOG_FILE",
    parse.text,
    "",
    "The log that `run_backup.py` appends to.",
    shown="`APP_DIR/logs/backup.log`",
)

BACKUP_CONFIG_FILES = Variable(
    "BACKUP_CONFIG_FILES",
    parse.items,
    ".env.example, docker-compose.yml, requirements.txt, backend/config.py",
    "Config files in APP_DIR; globs are allowed (`*`, `**`, `?`, `[…]`). `none` for none. A `.env` is never archived.",
)
BACKUP_FILE_TREES = Variable(
    "BACKUP_FILE_TREES",
    parse.items,
    "backend/templates, uploads",
    "Folders to back up whole, inside APP_DIR or absolute. `NAME=PATH` gives the name in the backup, which "
    "is otherwise the last part of the path (write `./a=b` for a path with `=`). `none` for none.",
)
BACKUP_EXCLUDE = Variable(
    "BACKUP_EXCLUDE", parse.items, "", "Patterns of paths in the file trees to leave out.", shown="nothing"
)

BACKUP_RETENTION_DAYS = Variable(
    "BACKUP_RETENTION_DAYS",
    parse.integer(1),
    "30",
    "A backup is kept while it is younger than this, in days.",
)
MAX_BACKUPS = Variable(
    "MAX_BACKUPS",
    parse.integer(1),
    "50",
    "At most this many backups are kept, pinned ones apart. Never below the sum of the BACKUP_KEEP_*.",
)
BACKUP_KEEP_DAILY = Variable(
    "BACKUP_KEEP_DAILY",
    parse.integer(0),
    "0",
    "Beyond the days: the newest backup of each of so many days that have one (UTC).",
)
BACKUP_KEEP_WEEKLY = Variable("BACKUP_KEEP_WEEKLY", parse.integer(0), "0", "The same for ISO weeks.")
BACKUP_KEEP_MONTHLY = Variable("BACKUP_KEEP_MONTHLY", parse.integer(0), "0", "The same for months.")

DB_HOST = Variable("DB_HOST", parse.text, "postgres", "Server name, address, or the folder of a Unix socket.")
DB_PORT = Variable("DB_PORT", parse.integer(1, 65535), "5432", "Server port.")
DB_NAME = Variable("DB_NAME", parse.text, "radiology_db", "The database to protect.")
DB_USER = Variable("DB_USER", parse.text, "postgres", "The role that backs up and restores.")
BACKUP_PG_BIN = Variable(
    "BACKUP_PG_BIN",
    parse.text,
    "",
    "Folder with `pg_dump` and its companions.",
    shown="found on PATH and in the usual folders",
    names_programs=True,
)
BACKUP_CONNECT_TIMEOUT = Variable(
    "BACKUP_CONNECT_TIMEOUT", parse.duration, "10s", "How long one connection may take to open."
)
BACKUP_LOCK_TIMEOUT = Variable(
    "BACKUP_LOCK_TIMEOUT",
    parse.duration,
    "10m",
    "How long a backup waits for a table that someone else has locked.",
)
BACKUP_DUMP_TIMEOUT = Variable(
    "BACKUP_DUMP_TIMEOUT", parse.duration, "none", "How long the dump may take. No limit unless set."
)
RESTORE_CONNECTIONS = Variable(
    "RESTORE_CONNECTIONS",
    parse.integer(1, 64),
    "",
    "Connections that load a database at the same time.",
    shown="4, or the number of cores if smaller",
)
RESTORE_KEEP = Variable(
    "RESTORE_KEEP",
    parse.duration,
    "72h",
    "How long what a restore or an undo replaced is kept, for `resurgam undo` to bring it back. It is never removed if "
    "it changed meanwhile. `none`: kept for ever.",
)
RESTORE_SAFETY_BACKUP = Variable(
    "RESTORE_SAFETY_BACKUP",
    parse.boolean,
    "true",
    "Take a backup of the present state before each restore.",
)

REMOTE_BACKUP_ENABLED = Variable(
    "REMOTE_BACKUP_ENABLED", parse.boolean, "false", "Copy each backup to REMOTE_BACKUP_PATH as well."
)
REMOTE_BACKUP_PATH = Variable(
    "REMOTE_BACKUP_PATH",
    parse.text,
    "",
    "A mounted folder for the copies. Needed if copies are enabled.",
    shown="none",
)
REMOTE_BACKUP_RETENTION_DAYS = Variable(
    "REMOTE_BACKUP_RETENTION_DAYS",
    parse.integer(1),
    "",
    "BACKUP_RETENTION_DAYS for the copies.",
    shown="`BACKUP_RETENTION_DAYS`",
)
REMOTE_MAX_BACKUPS = Variable(
    "REMOTE_MAX_BACKUPS", parse.integer(1), "", "MAX_BACKUPS for the copies.", shown="`MAX_BACKUPS`"
)

DB_PASSWORD = SecretVariable("DB_PASSWORD", "The role's password. Without one, libpq looks into `~/.pgpass`.")
DATABASE_URL = SecretVariable(
    "DATABASE_URL",
    "`postgresql://USER:PASSWORD@HOST:PORT/NAME?sslmode=…`, also as SQLAlchemy writes it (`postgresql+psycopg2://`).",
)
RESTORE_DATABASE_URL = SecretVariable(
    "RESTORE_DATABASE_URL",
    "Another server that `restore --to-server setting` loads into, as a URL like DATABASE_URL's; the name of its "
    "database does not count.",
)
PGPASSWORD = SecretVariable("PGPASSWORD", "libpq's variable for the password.")

# libpq's variables that stand in for a DB_* value; every other PG* is libpq's own affair.
PG_FALLBACK = {"DB_HOST": "PGHOST", "DB_PORT": "PGPORT", "DB_NAME": "PGDATABASE", "DB_USER": "PGUSER"}

# Settings whose feature does not exist yet. A backup that ignored one would be believed encrypted, or
# elsewhere.
UNAVAILABLE = {
    "S3_BACKUP_BUCKET": "copies to S3",
}
GROUPS: tuple[tuple[str, tuple[Variable[object] | SecretVariable, ...]], ...] = (
    ("The application", (APP_NAME, APP_DIR, BACKUP_CONFIG_FILES, BACKUP_FILE_TREES, BACKUP_EXCLUDE)),
    ("Backups", (BACKUP_ENABLED, BACKUP_DIR, BACKUP_STATE_FILE, BACKUP_LOG_FILE)),
    (
        "Retention",
        (BACKUP_RETENTION_DAYS, MAX_BACKUPS, BACKUP_KEEP_DAILY, BACKUP_KEEP_WEEKLY, BACKUP_KEEP_MONTHLY),
    ),
    (
        "The database",
        (
            DB_HOST,
            DB_PORT,
            DB_NAME,
            DB_USER,
            DB_PASSWORD,
            DATABASE_URL,
            BACKUP_PG_BIN,
            BACKUP_CONNECT_TIMEOUT,
            BACKUP_LOCK_TIMEOUT,
            BACKUP_DUMP_TIMEOUT,
            RESTORE_CONNECTIONS,
            RESTORE_DATABASE_URL,
            RESTORE_KEEP,
            RESTORE_SAFETY_BACKUP,
        ),
    ),
    (
        "Remote copies",
        (REMOTE_BACKUP_ENABLED, REMOTE_BACKUP_PATH, REMOTE_BACKUP_RETENTION_DAYS, REMOTE_MAX_BACKUPS),
    ),
    ENCRYPTION_GROUP,
    REPOSITORY_GROUP,
    *SERVICE_GROUPS,
)

SECRETS = frozenset(
    {variable.name for _, group in GROUPS for variable in group if isinstance(variable, SecretVariable)}
    | {"PGPASSWORD"}
)


def known_names() -> frozenset[str]:
    """Every variable that may also be a key of resurgam.toml (in lower case), secrets and their _FILE
    included.
    """
    names = {variable.name for _, group in GROUPS for variable in group}
    names |= {f"{name}_FILE" for name in names & SECRETS}
    return frozenset(names | UNAVAILABLE.keys())

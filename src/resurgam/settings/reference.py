"""docs/settings.md, written from the table of variables: `python -m resurgam.settings.reference > docs/settings.md`.

A test compares the file with this, so the page can not fall behind.
"""

from __future__ import annotations

import sys

from resurgam.settings.table import SecretVariable, Variable
from resurgam.settings.variables import GROUPS, UNAVAILABLE

_HEAD = """\
# Settings

<!-- Written by `python -m resurgam.settings.reference`; change src/resurgam/settings/variables.py instead. -->

Every setting is an environment variable. Nothing needs to be set: the defaults are the manual's. Where a setting
stands in several places, the first of these wins:

1. the environment of the process;
2. `.env` in APP_DIR, with `${NAME}` and `${NAME:-default}` filled in (it is read, and never archived);
3. `resurgam.toml`: the file that `RESURGAM_CONFIG` names, else the one in the current folder, else the one in APP_DIR;
4. the default.

In `resurgam.toml` a key is the variable's name in lower case, without tables: `max_backups = 50`,
`backup_file_trees = ["uploads", "media=/srv/media"]`. Unknown keys are refused. Secrets may not stand there, only
their `_file`. It can name programs to run, so it is refused if another user (but root) owns it or others can write to
it. For the same reason BACKUP_PG_BIN, BACKUP_ENCRYPTION_KEY_COMMAND, DRILL_FILE and the hooks are refused from a `.env`
that others own or can write to.

An empty value means "not set". Booleans are `true`/`false`, `1`/`0`, `yes`/`no`, `on`/`off`. Durations are `90` or
`90s`, `10m`, `2h`, `1d`; `none` or `0` means no limit. Lists are separated by commas; `none` is the empty list.
Relative paths start in APP_DIR. Everything that is wrong is reported together, by name, before anything is done;
unknown variables that begin with `BACKUP_`, `REMOTE_BACKUP_` or `DRILL_` are reported as warnings.
"""

_ABSENT = """
A default config file or tree that is absent is a warning; one that was configured is a failure of the backup. Config
files outside of APP_DIR are refused, for a restore must not write there; a folder elsewhere can be a file tree.
"""

_CONNECTION = """
Each value of the connection is looked for as `DB_*`, then as libpq's `PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER` or
`PGPASSWORD`, then in `DATABASE_URL`, and then has the default above. These may stand in `.env` too. All other `PG*`
variables (`PGSSLMODE`, `PGPASSFILE`, …) work as libpq reads them, from the environment only. With `PGSERVICE` set, the
service supplies whatever no `DB_*` variable gives. Without a password, libpq looks into `~/.pgpass`. Of the parameters
of `DATABASE_URL`, those that say how to reach and to trust the server (`sslmode`, `sslrootcert`, …) are kept.
"""

_REPOSITORY = """
A repository is opened by one of the four keys. With none of them set, and a BACKUP_RECOVERY_KIT_FILE, by the kit.
Remote copies (REMOTE_BACKUP_ENABLED) are of archives, and are refused beside a repository.
"""

_SECRETS = """
## Secrets
Each secret (DB_PASSWORD, DATABASE_URL, PGPASSWORD, BACKUP_ENCRYPTION_KEY, BACKUP_JWT_SECRET, BACKUP_NOTIFY_URLS,
BACKUP_PING_URL, DRILL_DATABASE_URL, RESTORE_DATABASE_URL) can instead be given as a file, by its name with `_FILE`:
`DB_PASSWORD_FILE=/run/secrets/db_password`. One line end at the file's end is dropped. Both forms in one place are
refused; of two places the first in the order above wins. No secret is ever shown in a message, a log or an answer.
"""


def reference() -> str:
    """The page."""
    parts = [_HEAD]
    for title, variables in GROUPS:
        parts.append(f"\n## {title}\n| variable | default | meaning |\n| --- | --- | --- |\n")
        parts.extend(_row(variable) for variable in variables)
        if title == "The database":
            parts.append(_CONNECTION)
        if title == "The application":
            parts.append(_ABSENT)
        if title == "The repository":
            parts.append(_REPOSITORY)
    parts.append(_SECRETS)
    parts.append("\n## Not there yet\nA backup fails, rather than ignoring them, while one of these is set:\n")
    parts.extend(f"- `{name}` ({feature})\n" for name, feature in sorted(UNAVAILABLE.items()))
    return "".join(parts)


def _row(variable: Variable[object] | SecretVariable) -> str:
    if isinstance(variable, SecretVariable):
        return f"| `{variable.name}`, `{variable.name}_FILE` | none | {variable.meaning} |\n"
    default = f"`{variable.default}`" if variable.default else variable.shown
    return f"| `{variable.name}` | {default} | {variable.meaning} |\n"


if __name__ == "__main__":
    sys.stdout.write(reference())

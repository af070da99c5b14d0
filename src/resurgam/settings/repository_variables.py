"""The variables of the repository, of encrypted archives, and of the keys that open them."""

from __future__ import annotations

from resurgam.settings import parse
from resurgam.settings.table import SecretVariable, Variable

BACKUP_REPOSITORY = Variable(
    "BACKUP_REPOSITORY",
    parse.text,
    "",
    "Keep backups in a deduplicated, encrypted repository rather than as archives: a folder, or `s3://BUCKET/PREFIX`, "
    "`gs://…`, `az://…`. `resurgam init` makes it. BACKUP_DIR then holds the state, the catalog and drills' evidence.",
    shown="archives in BACKUP_DIR",
)
BACKUP_ENCRYPTION = Variable(
    "BACKUP_ENCRYPTION",
    parse.one_of("age", "gpg", "none"),
    "",
    "How new archives are encrypted: `age`, `gpg` (by a passphrase only, opened with `gpg -d`), or `none`.",
    shown="`age` where a passphrase or recipients are set and no repository is, else `none`",
)
BACKUP_ENCRYPTION_KEY = SecretVariable(
    "BACKUP_ENCRYPTION_KEY",
    "The passphrase that opens the repository, or encrypts archives and opens them. Who loses it loses what it "
    "encrypted: keep a copy off this machine.",
)
BACKUP_ENCRYPTION_KEY_COMMAND = Variable(
    "BACKUP_ENCRYPTION_KEY_COMMAND",
    parse.text,
    "",
    "A command that prints the passphrase as its first line; run without a shell, when the passphrase is needed.",
    shown="none",
    names_programs=True,
)
BACKUP_ENCRYPTION_RECIPIENTS = Variable(
    "BACKUP_ENCRYPTION_RECIPIENTS",
    parse.items,
    "",
    "Whom new archives are encrypted to, `age1…` each, instead of by a passphrase: without an identity this machine "
    "then writes archives that it can't read.",
    shown="none",
)
BACKUP_ENCRYPTION_IDENTITY_FILE = Variable(
    "BACKUP_ENCRYPTION_IDENTITY_FILE",
    parse.text,
    "",
    "An age identity, in its file: it opens the repository, instead of a passphrase, and archives that were encrypted "
    "to its recipient.",
    shown="none",
)
BACKUP_WRITER_KEY_FILE = Variable(
    "BACKUP_WRITER_KEY_FILE",
    parse.text,
    "",
    "The key of a write-only host (`resurgam keys writer`) instead of any other: it adds backups, and reads none.",
    shown="none",
)
BACKUP_RECOVERY_KIT_FILE = Variable(
    "BACKUP_RECOVERY_KIT_FILE",
    parse.text,
    "",
    "An escrowed copy of the recovery kit: each drill proves that it opens the repository. Where no other key is set, "
    "it is the key.",
    shown="none",
)
BACKUP_PRUNE_LIMIT = Variable(
    "BACKUP_PRUNE_LIMIT",
    parse.integer(1, 100),
    "50",
    "A prune that would free more than so many percent of the repository stops and asks (`resurgam prune --accept`).",
)
BACKUP_READ_ALL = Variable(
    "BACKUP_READ_ALL",
    parse.boolean,
    "false",
    "Read every file again for each backup into a repository, also those that look unchanged.",
)

ENCRYPTION_GROUP: tuple[str, tuple[Variable[object] | SecretVariable, ...]] = (
    "Encryption",
    (
        BACKUP_ENCRYPTION,
        BACKUP_ENCRYPTION_KEY,
        BACKUP_ENCRYPTION_KEY_COMMAND,
        BACKUP_ENCRYPTION_RECIPIENTS,
        BACKUP_ENCRYPTION_IDENTITY_FILE,
    ),
)
REPOSITORY_GROUP: tuple[str, tuple[Variable[object] | SecretVariable, ...]] = (
    "The repository",
    (
        BACKUP_REPOSITORY,
        BACKUP_WRITER_KEY_FILE,
        BACKUP_RECOVERY_KIT_FILE,
        BACKUP_PRUNE_LIMIT,
        BACKUP_READ_ALL,
    ),
)

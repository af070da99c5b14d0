"""The options of `resurgam restore`, as types: what each is called, and what its help says."""

from __future__ import annotations

from typing import Annotated

import typer

OnlyOption = Annotated[
    str, typer.Option("--only", metavar="PARTS", help="Parts to restore, by commas: database, config, files.")
]
AsOfOption = Annotated[
    str,
    typer.Option(metavar="TIME", help='Instead of NAME: the newest backup from before that time ("2025-01-04 14:30").'),
]
IntoOption = Annotated[
    str, typer.Option(metavar="DATABASE", help="Load the database under this new name; the live one stays.")
]
ToServerOption = Annotated[
    str,
    typer.Option(
        metavar="SERVICE",
        help="Load the database on another server: a service of pg_service.conf, or `setting` for "
        "RESTORE_DATABASE_URL.",
    ),
]
SchemaOption = Annotated[
    list[str] | None,
    typer.Option(metavar="SCHEMA", help="Bring this schema into the live database, under a new name (again for more)."),
]
TableOption = Annotated[
    list[str] | None,
    typer.Option(metavar="SCHEMA.TABLE", help="The same for a table, beside the present one."),
]
ForeignKeysOption = Annotated[
    bool, typer.Option("--foreign-keys", help="With --table: also its foreign keys, not checked (NOT VALID).")
]
FileOption = Annotated[
    list[str] | None,
    typer.Option(
        "--file", "--folder", metavar="PATH", help="Bring this file or folder of the backup, beside the live one."
    ),
]
TargetOption = Annotated[str, typer.Option(metavar="FOLDER", help="With --file: into this folder instead.")]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Show what would change, how long it should take and what stands in the way.")
]
SameAsPlanOption = Annotated[bool, typer.Option("--dry-run", help="The same as --plan.")]
RolesOption = Annotated[
    str,
    typer.Option(
        metavar="CHOICE",
        help="Roles that the dump names and the server lacks: fail, create (without login) or skip (leave out what "
        "is given to them).",
    ),
]
CheckOption = Annotated[
    str,
    typer.Option(
        metavar="CHOICE",
        help="How to check what was loaded: rows (counted), or full (read back, and compared with the backup's "
        "fingerprint).",
    ),
]
InPlaceOption = Annotated[
    bool,
    typer.Option(
        "--in-place",
        help="Where the role may not create databases: replace the live database's content in one transaction. A "
        "safety backup is always taken, no previous database is kept.",
    ),
]
NoSafetyBackupOption = Annotated[
    bool, typer.Option("--no-safety-backup", help="Take no backup of the present state first.")
]

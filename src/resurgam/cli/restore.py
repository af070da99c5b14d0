"""`resurgam restore`: shows the plan, asks, restores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import Face, JsonOption, OptionalName, QuietOption, YesOption
from resurgam.cli.restore_wording import plan_text, result_text
from resurgam.cli.wording import printable
from resurgam.errors import RestoreRefused, UsageError

if TYPE_CHECKING:
    from resurgam.operations.restore import Parts, RestoreResult, Wishes
    from resurgam.operations.restore_beside import BesideResult
    from resurgam.operations.restore_plan import RoleChoice

_PARTS = ("database", "config", "files")


def restore(
    name: OptionalName = "",
    yes: YesOption = False,
    only: Annotated[
        str, typer.Option("--only", metavar="PARTS", help="Parts to restore, by commas: database, config, files.")
    ] = "",
    as_of: Annotated[
        str,
        typer.Option(
            metavar="TIME", help='Instead of NAME: the newest backup from before that time ("2025-01-04 14:30").'
        ),
    ] = "",
    into: Annotated[
        str, typer.Option(metavar="DATABASE", help="Load the database under this new name; the live one stays.")
    ] = "",
    to_server: Annotated[
        str,
        typer.Option(
            metavar="SERVICE",
            help="Load the database on another server: a service of pg_service.conf, or `setting` for "
            "RESTORE_DATABASE_URL.",
        ),
    ] = "",
    schema: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEMA", help="Bring this schema into the live database, under a new name (again for more)."
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEMA.TABLE", help="The same for a table, beside the present one."),
    ] = None,
    foreign_keys: Annotated[
        bool, typer.Option("--foreign-keys", help="With --table: also its foreign keys, not checked (NOT VALID).")
    ] = False,
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file", "--folder", metavar="PATH", help="Bring this file or folder of the backup, beside the live one."
        ),
    ] = None,
    target: Annotated[str, typer.Option(metavar="FOLDER", help="With --file: into this folder instead.")] = "",
    plan_only: Annotated[
        bool,
        typer.Option("--plan", help="Show what would change, how long it should take and what stands in the way."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as --plan.")] = False,
    roles: Annotated[
        str,
        typer.Option(
            metavar="CHOICE",
            help="Roles that the dump names and the server lacks: fail, create (without login) or skip (leave out what "
            "is given to them).",
        ),
    ] = "fail",
    check: Annotated[
        str,
        typer.Option(
            metavar="CHOICE",
            help="How to check what was loaded: rows (counted), or full (read back, and compared with the backup's "
            "fingerprint).",
        ),
    ] = "rows",
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Where the role may not create databases: replace the live database's content in one transaction. A "
            "safety backup is always taken, no previous database is kept.",
        ),
    ] = False,
    no_safety_backup: Annotated[
        bool, typer.Option("--no-safety-backup", help="Take no backup of the present state first.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Bring a backup back; what it replaces is kept.

    Database and files are loaded beside the live ones, checked, and swapped in. Without --yes the plan is shown first.
    With --into, --to-server, --schema, --table or --file nothing live is touched.
    """
    face = Face(json, quiet)
    parts = _parts(only)
    wishes = _wishes(
        roles,
        safety=False if no_safety_backup else None,
        into=into,
        to_server=to_server,
        schemas=tuple(schema or ()),
        tables=tuple(table or ()),
        foreign_keys=foreign_keys,
        paths=tuple(file or ()),
        folder=target,
        full_check=_full_check(check),
        in_place=in_place,
    )
    if only and wishes.beside:
        raise UsageError("--only is for restores of the whole; nothing was done.")
    if bool(name) == bool(as_of):
        raise UsageError("Give the backup's NAME, or --as-of and a time; nothing was done.")
    dry_run = dry_run or plan_only
    if not (yes or dry_run):
        face.require_terminal()
    with face.service() as service:
        if as_of:
            name = service.inventory.as_of(as_of).name
        if dry_run or not yes:
            plan = service.plan_beside(name, wishes) if wishes.beside else service.plan_restore(name, parts, wishes)
    if dry_run:
        face.answer(plan.to_json(), plan_text(plan))
        return exits.FAILED if plan.problems else exits.OK
    if not yes:
        if plan.problems:
            raise RestoreRefused(plan.problems, "Mend these and restore again.")
        face.confirm("Restore now?", plan_text(plan))
    asked: dict[str, Any] = {**{part: getattr(parts, part) for part in _PARTS}, "roles": roles}
    asked |= {key: value for key, value in wishes.to_json().items() if value}
    with face.service() as service, audited(service, "restore", name, asked):
        if wishes.beside:
            done: BesideResult | RestoreResult = service.restore_beside(name, wishes)
        else:
            done = service.restore(name, parts, wishes)
    face.warn(*done.warnings)
    face.answer(done.to_json(), result_text(done))
    return exits.OK


def _wishes(roles: str, **wishes: Any) -> Wishes:
    from resurgam.operations.restore import Wishes

    if roles not in ("fail", "create", "skip"):
        raise UsageError(f"--roles knows fail, create and skip, not {printable(roles)}; nothing was done.")
    made = Wishes(roles=cast("RoleChoice", roles), **wishes)
    made.check()
    return made


def _full_check(check: str) -> bool:
    if check not in ("rows", "full"):
        raise UsageError(f"--check knows rows and full, not {printable(check)}; nothing was done.")
    return check == "full"


def _parts(only: str) -> Parts:
    from resurgam.operations.restore import Parts

    wanted = [part.strip() for part in only.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in _PARTS]
    if unknown or (only and not wanted):
        raise UsageError(
            f"--only knows database, config and files, not {printable(', '.join(unknown)) or 'nothing'}; "
            "nothing was done.",
            "For example: --only database,files",
        )
    return Parts(**{part: part in wanted for part in _PARTS}) if wanted else Parts()

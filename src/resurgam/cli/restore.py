"""`resurgam restore`: shows the plan, asks, restores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import Face, JsonOption, NameArgument, QuietOption, YesOption
from resurgam.cli.restore_wording import plan_text
from resurgam.cli.wording import count_text, printable, seconds_text
from resurgam.errors import RestoreRefused, UsageError

if TYPE_CHECKING:
    from resurgam.operations.restore import Parts, RestoreResult, Wishes
    from resurgam.operations.restore_plan import RoleChoice

_PARTS = ("database", "config", "files")


def restore(
    name: NameArgument,
    yes: YesOption = False,
    only: Annotated[
        str, typer.Option("--only", metavar="PARTS", help="Parts to restore, by commas: database, config, files.")
    ] = "",
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
    no_safety_backup: Annotated[
        bool, typer.Option("--no-safety-backup", help="Take no backup of the present state first.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Bring a backup back; what it replaces is kept.

    Database and files are loaded beside the live ones, checked, and swapped in. Without --yes the plan is shown first.
    """
    face = Face(json, quiet)
    parts, wishes = _parts(only), _wishes(roles, no_safety_backup)
    dry_run = dry_run or plan_only
    if not (yes or dry_run):
        face.require_terminal()
    with face.service() as service:
        if dry_run or not yes:
            plan = service.plan_restore(name, parts, wishes)
    if dry_run:
        face.answer(plan.to_json(), plan_text(plan))
        return exits.FAILED if plan.problems else exits.OK
    if not yes:
        if plan.problems:
            raise RestoreRefused(plan.problems, "Mend these and restore again.")
        face.confirm("Restore now?", plan_text(plan))
    asked = {**{part: getattr(parts, part) for part in _PARTS}, "roles": roles}
    with face.service() as service, audited(service, "restore", name, asked):
        result = service.restore(name, parts, wishes)
    face.warn(*result.warnings)
    face.answer(result.to_json(), _result_text(result))
    return exits.OK


def _wishes(roles: str, no_safety_backup: bool) -> Wishes:
    from resurgam.operations.restore import Wishes

    if roles not in ("fail", "create", "skip"):
        raise UsageError(f"--roles knows fail, create and skip, not {printable(roles)}; nothing was done.")
    return Wishes(roles=cast("RoleChoice", roles), safety=False if no_safety_backup else None)


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


def _result_text(result: RestoreResult) -> str:
    lines = [f"Restored {result.plan.name} in {seconds_text(result.seconds)}."]
    if result.loaded is not None:
        rows = sum(result.loaded.rows.values())
        lines.append(
            f"  database   {count_text(len(result.loaded.rows), 'table')}, {count_text(rows, 'row')}; "
            f"not reachable for {seconds_text(result.offline)}"
        )
    if result.safety_backup:
        lines.append(f"  saved      the state before as the backup {result.safety_backup}")
    if result.previous_database:
        lines.append(f"  kept       the replaced database as {result.previous_database}")
    for kept in result.kept:
        before = "there was nothing before" if kept.previous is None else f"what was there is kept in {kept.previous}"
        lines.append(f"  restored   {kept.target}; {before}")
    lines.append("`resurgam undo` takes this back.")
    lines.append("Restart the application, so that it opens new connections and reads its files again.")
    return "\n".join(map(printable, lines))

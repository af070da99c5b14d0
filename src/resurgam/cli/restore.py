"""`resurgam restore`: shows the plan, asks, restores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import DryRunOption, Face, JsonOption, NameArgument, QuietOption, YesOption
from resurgam.cli.wording import count_text, moment_text, printable, seconds_text, size_text
from resurgam.errors import RestoreRefused, UsageError

if TYPE_CHECKING:
    from resurgam.operations.restore import Parts, RestorePlan, RestoreResult

_PARTS = ("database", "config", "files")


def restore(
    name: NameArgument,
    yes: YesOption = False,
    only: Annotated[
        str, typer.Option("--only", metavar="PARTS", help="Parts to restore, by commas: database, config, files.")
    ] = "",
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Bring a backup back; what it replaces is kept.

    Database and files are loaded beside the live ones, checked, and swapped in. Without --yes the plan is shown first.
    """
    face = Face(json, quiet)
    parts = _parts(only)
    if not (yes or dry_run):
        face.require_terminal()
    with face.service() as service:
        if dry_run or not yes:
            plan = service.plan_restore(name, parts)
    if dry_run:
        face.answer(plan.to_json(), _plan_text(plan))
        return exits.FAILED if plan.problems else exits.OK
    if not yes:
        if plan.problems:
            raise RestoreRefused(plan.problems, "Mend these and restore again.")
        face.confirm("Restore now?", _plan_text(plan))
    asked = {part: getattr(parts, part) for part in _PARTS}
    with face.service() as service, audited(service, "restore", name, asked):
        result = service.restore(name, parts)
    face.warn(*result.warnings)
    face.answer(result.to_json(), _result_text(result))
    return exits.OK


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


def _plan_text(plan: RestorePlan) -> str:
    lines = [f"Restoring {plan.name}, taken {moment_text(plan.date)}, would:"]
    if plan.database is not None:
        database = plan.database
        rows = sum(database.script.rows.values())
        size = f"{count_text(len(database.script.rows), 'table')}, {count_text(rows, 'row')}"
        if database.replaces:
            lines.append(f"  - replace the database {database.live} ({size}); the present one is kept as")
            lines.append(f"    {database.previous}. Sessions that use it are ended.")
        else:
            lines.append(f"  - create the database {database.live} ({size})")
    if plan.files is not None:
        for tree, path in plan.files.trees if plan.parts.files else ():
            lines.append(f"  - replace the folder {path} by the backup's {tree}; the present one is kept beside it")
        for config in plan.files.config if plan.parts.config else ():
            lines.append(f"  - replace the config file {config}; the present one is kept beside it")
        lines.append(f"  - write {size_text(plan.files.size)} of files")
    lines += [f"Warning: {warning}" for warning in plan.warnings]
    if plan.problems:
        lines.append("It would be refused, because")
        lines += [f"  - {problem}" for problem in plan.problems]
    return "\n".join(map(printable, lines))


def _result_text(result: RestoreResult) -> str:
    lines = [f"Restored {result.plan.name} in {seconds_text(result.seconds)}."]
    if result.loaded is not None:
        rows = sum(result.loaded.rows.values())
        lines.append(
            f"  database   {count_text(len(result.loaded.rows), 'table')}, {count_text(rows, 'row')}; "
            f"not reachable for {seconds_text(result.offline)}"
        )
    if result.previous_database:
        lines.append(f"  kept       the replaced database as {result.previous_database}")
    for kept in result.kept:
        before = "there was nothing before" if kept.previous is None else f"what was there is kept in {kept.previous}"
        lines.append(f"  restored   {kept.target}; {before}")
    lines.append("Restart the application, so that it opens new connections and reads its files again.")
    return "\n".join(map(printable, lines))

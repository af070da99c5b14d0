"""`resurgam undo`: takes the latest restore back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import DryRunOption, Face, JsonOption, QuietOption, YesOption
from resurgam.cli.wording import moment_text, printable, seconds_text

if TYPE_CHECKING:
    from resurgam.operations.undo import UndoPlan, UndoResult

_ACCEPT = "Bring it back although it was changed since it was kept."


def undo(
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    accept_changes: Annotated[bool, typer.Option("--accept-changes", help=_ACCEPT)] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Take the latest restore back, in seconds; what it restored is kept.

    The database, folders and files that it replaced get their places again. A second undo takes the first one back.
    """
    from resurgam import keeping
    from resurgam.errors import RestoreRefused

    face = Face(json, quiet)
    if not (yes or dry_run):
        face.require_terminal()
    expected = ""
    if dry_run or not yes:
        with face.service() as service:
            plan = keeping.plan_undo(service)
        problems = (*plan.problems, *(() if accept_changes else plan.changes))
        if dry_run:
            face.answer(plan.to_json(), _plan_text(plan))
            return exits.FAILED if problems else exits.OK
        if problems:
            from resurgam.operations.undo import undo_hint

            raise RestoreRefused(problems, undo_hint(plan))
        face.confirm("Undo now?", _plan_text(plan))
        expected = plan.undoes.restore_id
    asked = {"restore_id": expected, "accept_changes": accept_changes}
    with face.service() as service, audited(service, "undo", service.settings.app_name, asked):
        result = keeping.undo(service, expected, accept_changes=accept_changes)
    face.warn(*result.warnings)
    face.answer(result.to_json(), _result_text(result))
    return exits.OK


def _plan_text(plan: UndoPlan) -> str:
    ended = plan.undoes.ended_at
    when = "" if ended is None else f", complete since {moment_text(ended.isoformat(timespec='seconds'))}"
    lines = [f"Undoing {plan.what}{when}, would:"]
    if (database := plan.database) is not None:
        if database.brings_back:
            lines.append(f"  - bring {database.brings_back} back as the database {database.live};")
            lines.append(f"    the present one is kept as {database.kept_as}. Sessions that use them are ended.")
        else:
            lines.append(f"  - put the database {database.live} away as {database.kept_as}; there was none before")
    for item in plan.items:
        if item.staged == item.target:
            lines.append(f"  - put {item.target} away; there was nothing before")
        else:
            lines.append(f"  - bring {item.target} back from {item.staged}; the present one is kept beside it")
    for heading, sentences in (("It would be refused, because", plan.problems), ("Changed meanwhile:", plan.changes)):
        if sentences:
            lines += [heading, *(f"  - {sentence}" for sentence in sentences)]
    return "\n".join(map(printable, lines))


def _result_text(result: UndoResult) -> str:
    lines = [f"Undid {result.plan.what} in {seconds_text(result.seconds)}."]
    if result.plan.database is not None:
        lines.append(f"  database   {result.plan.database.live}; not reachable for {seconds_text(result.offline)}")
    if result.kept_database:
        lines.append(f"  kept       what had been restored as {result.kept_database}")
    for kept in result.kept:
        where = "" if kept.previous is None else f"; what had been restored is kept in {kept.previous}"
        lines.append(f"  back       {kept.target}{where}")
    lines.append("Restart the application, so that it opens new connections and reads its files again.")
    return "\n".join(map(printable, lines))

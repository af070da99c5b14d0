"""`resurgam restore`: shows the plan, asks, restores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import Face, JsonOption, OptionalName, QuietOption, YesOption
from resurgam.cli.restore_options import (
    AsOfOption,
    CheckOption,
    FileOption,
    ForeignKeysOption,
    InPlaceOption,
    IntoOption,
    NoSafetyBackupOption,
    OnlyOption,
    PlanOption,
    RolesOption,
    SameAsPlanOption,
    SchemaOption,
    TableOption,
    TargetOption,
    ToServerOption,
)
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
    only: OnlyOption = "",
    as_of: AsOfOption = "",
    into: IntoOption = "",
    to_server: ToServerOption = "",
    schema: SchemaOption = None,
    table: TableOption = None,
    foreign_keys: ForeignKeysOption = False,
    file: FileOption = None,
    target: TargetOption = "",
    plan_only: PlanOption = False,
    dry_run: SameAsPlanOption = False,
    roles: RolesOption = "fail",
    check: CheckOption = "rows",
    in_place: InPlaceOption = False,
    no_safety_backup: NoSafetyBackupOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Bring a backup back; what it replaces is kept.

    Database and files are loaded beside the live ones, checked, and swapped in. Without --yes the plan is shown first.
    With --into, --to-server, --schema, --table or --file nothing live is touched.
    """
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
    return _restore(Face(json, quiet), _Asked(name, as_of, parts, wishes), yes=yes, dry_run=dry_run or plan_only)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is to be restored: the backup of that name, or, without one, the newest from before `as_of`."""

    name: str
    as_of: str
    parts: Parts
    wishes: Wishes


def _restore(face: Face, asked: _Asked, *, yes: bool, dry_run: bool) -> int:
    """Show the plan and ask, unless told otherwise; then do it."""
    name, parts, wishes = asked.name, asked.parts, asked.wishes
    if not (yes or dry_run):
        face.require_terminal()
    with face.service() as service:
        if asked.as_of:
            name = service.inventory.as_of(asked.as_of).name
        if dry_run or not yes:
            plan = service.plan_beside(name, wishes) if wishes.beside else service.plan_restore(name, parts, wishes)
    if dry_run:
        face.answer(plan.to_json(), plan_text(plan))
        return exits.FAILED if plan.problems else exits.OK
    if not yes:
        if plan.problems:
            raise RestoreRefused(plan.problems, "Mend these and restore again.")
        face.confirm("Restore now?", plan_text(plan))
    noted: dict[str, Any] = {**{part: getattr(parts, part) for part in _PARTS}, "roles": wishes.roles}
    noted |= {key: value for key, value in wishes.to_json().items() if value}
    with face.service() as service, audited(service, "restore", name, noted):
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

"""`resurgam repair`: settle what a repository has lost for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import DryRunOption, Face, JsonOption, QuietOption, YesOption
from resurgam.cli.wording import printable

if TYPE_CHECKING:
    from resurgam.operations.repair import RepairResult


def repair(
    yes: YesOption = False, dry_run: DryRunOption = False, json: JsonOption = False, quiet: QuietOption = False
) -> int:
    """Settle what the repository has lost for good, so that it can be pruned again.

    First bring back what can be: mount the disk, copy missing objects from a copy of the repository. What can be made
    again is put again; what is gone is noted as gone; nothing that is there is removed. Hurt backups are named.
    """
    from resurgam import readiness

    face = Face(json, quiet)
    with face.service() as service:
        result = readiness.repair(service, dry_run=True)
        if not dry_run:
            if result.lost and not yes:
                face.confirm("Note this as lost for good?", _text(result))
            with audited(service, "repair", service.settings.app_name) as done:
                result = readiness.repair(service, dry_run=False)
                done["lost"] = list(result.lost)
    face.answer(result.to_json(), _text(result))
    return exits.OK if not result.hurt else exits.DEGRADED


def _text(result: RepairResult) -> str:
    lines = [f"Lost: {one}" for one in result.lost] or ["Nothing is lost."]
    lines += [f"Put again: {one}" for one in result.mended]
    lines += [f"Hurt: {name}" for name in result.hurt]
    if result.hurt:
        lines.append(
            "Take a backup: what still exists is stored again. A backup that stays hurt: resurgam delete NAME."
        )
    return "\n".join(map(printable, lines))

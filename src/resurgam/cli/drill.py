"""`resurgam drill`: restore a backup for practice, and say whether it gives back what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import Face, JsonOption, QuietOption, complete_names
from resurgam.cli.wording import moment_text, printable, seconds_text
from resurgam.counting import count_text

if TYPE_CHECKING:
    from resurgam.operations.drill import DrillResult


_SHOWN = 10


def drill(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="The backup's name; else the newest good one.", autocompletion=complete_names
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Restore a backup for practice, and prove what it gives back.

    Into a scratch database and folder, which are removed again; the live side is not touched. Exits 1 if anything
    differs from what was backed up, or an assertion of DRILL_FILE does not hold.
    """
    face = Face(json, quiet)
    with face.service() as service, audited(service, "drill", name or service.settings.app_name) as noted:
        result = service.drill(name)
        noted |= {"outcome": result.outcome, "digest": result.digest}
    face.warn(*result.warnings)
    face.answer(result.to_json(), _text(result))
    return exits.OK if result.passed else exits.FAILED


def _text(result: DrillResult) -> str:
    report = result.report
    taken = moment_text(report["backup_taken_at"][:19])
    lines = [f"The drill of {report['backup_name']}, taken {taken}, {result.outcome}."]
    if "rows" in report:
        lines.append(
            f"  restored    {count_text(report['tables'], 'table')}, {count_text(report['rows'], 'row')}, "
            f"{count_text(report.get('files', 0), 'file')}"
        )
    phases = ", ".join(f"{name} {seconds_text(seconds)}" for name, seconds in report["phases"].items())
    lines.append(f"  time        a restore would take {seconds_text(report['rto_seconds'])} ({phases})")
    lines.append(f"  loss        a restore now would lose the last {seconds_text(report['rpo_seconds'])}")
    passed = sum(1 for one in report["assertions"] if one["passed"])
    lines.append(f"  assertions  {passed} of {len(report['assertions'])} hold; fingerprint: {report['fingerprint']}")
    if report["not_loaded"]:
        lines.append("Compared by its text alone, since a role without superuser rights can't load it:")
        shown = report["not_loaded"][:_SHOWN]
        lines += [f"  - {one}" for one in shown]
        if more := len(report["not_loaded"]) - len(shown):
            lines.append(f"  - and {more} more: --json has them all")
    if report["differences"]:
        lines.append("What is not as it should be:")
        lines += [f"  - {difference}" for difference in report["differences"]]
    lines += [f"    no file for {value!r}" for one in report["assertions"] for value in one["missing"]]
    return "\n".join(map(printable, lines))

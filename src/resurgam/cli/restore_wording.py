"""The plan of a restore, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resurgam.cli.wording import count_text, moment_text, printable, seconds_text, size_text

if TYPE_CHECKING:
    from resurgam.operations.restore_database import DatabasePlan
    from resurgam.operations.restore_plan import RestorePlan

_SESSIONS = 10


def plan_text(plan: RestorePlan) -> str:
    """All of a plan: what would be done, what it needs, what to know, what stands in the way."""
    lines = [f"Restoring {plan.name}, taken {moment_text(plan.date)}, would:"]
    if plan.database is not None:
        lines += _database(plan.database)
    if plan.files is not None:
        for tree, path in plan.files.trees if plan.parts.files else ():
            lines.append(f"  - replace the folder {path} by the backup's {tree}; the present one is kept beside it")
        for config in plan.files.config if plan.parts.config else ():
            lines.append(f"  - replace the config file {config}; the present one is kept beside it")
        lines.append(f"  - write {size_text(plan.files.size)} of files")
    lines.append(_time(plan))
    for name, diff in plan.config_diffs:
        lines.append(f"Changes in {name}:")
        lines += [f"    {line}" for line in diff]
    lines += [f"Warning: {warning}" for warning in plan.warnings]
    if plan.problems:
        lines.append("It would be refused, because")
        lines += [f"  - {problem}" for problem in plan.problems]
    return "\n".join(map(printable, lines))


def _database(plan: DatabasePlan) -> Iterator[str]:
    rows = sum(plan.script.rows.values())
    size = f"{count_text(len(plan.script.rows), 'table')}, {count_text(rows, 'row')}, {size_text(plan.script.size)}"
    around = plan.surroundings
    if plan.replaces:
        now = "" if around is None or around.database_bytes is None else f" of {size_text(around.database_bytes)}"
        yield f"  - replace the database {plan.live} ({size}); the present one{now} is kept as"
        yield f"    {plan.previous}. Sessions that use it are ended."
    else:
        yield f"  - create the database {plan.live} ({size})"
    if around is None:
        return
    for group in around.sessions[:_SESSIONS]:
        program = f" ({group.application})" if group.application else ""
        yield f"  - end {count_text(group.count, 'session')} of {group.user}{program} from {group.address}"
    if len(around.sessions) > _SESSIONS:
        yield f"  - end sessions of {len(around.sessions) - _SESSIONS} more kinds"
    if plan.script.dumped_from:
        yield f"  - go from PostgreSQL {plan.script.dumped_from} to {around.server_version}"


def _time(plan: RestorePlan) -> str:
    if plan.estimate.seconds is None:
        return "How long that takes is not known: nothing was restored here yet."
    earlier = count_text(plan.estimate.runs, "earlier restore")
    return f"That should take about {seconds_text(plan.estimate.seconds)}, going by {earlier}."

"""The plan of a restore and what came of it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from resurgam.cli.wording import moment_text, printable, seconds_text, size_text
from resurgam.counting import count_text

if TYPE_CHECKING:
    from resurgam.operations.restore import RestoreResult
    from resurgam.operations.restore_beside import BesideResult
    from resurgam.operations.restore_database import DatabasePlan
    from resurgam.operations.restore_plan import BesidePlan, RestorePlan

_SESSIONS = 10


def plan_text(plan: RestorePlan | BesidePlan) -> str:
    """All of a plan: what would be done, what it needs, what to know, what stands in the way."""
    from resurgam.operations.restore_plan import BesidePlan

    lines = [f"Restoring {plan.name}, taken {moment_text(plan.date)}, would:"]
    lines += _beside(plan) if isinstance(plan, BesidePlan) else _whole(plan)
    lines += [f"Warning: {warning}" for warning in plan.warnings]
    if plan.problems:
        lines.append("It would be refused, because")
        lines += [f"  - {problem}" for problem in plan.problems]
    return "\n".join(map(printable, lines))


def result_text(result: RestoreResult | BesideResult) -> str:
    """What was done."""
    from resurgam.operations.restore_beside import BesideResult

    return _beside_text(result) if isinstance(result, BesideResult) else _whole_text(result)


def _beside(plan: BesidePlan) -> Iterator[str]:
    for made in plan.made:
        where = f" in {made.where}" if made.where else ""
        yield f"  - make the {made.kind} {made.name}{where}, of the backup's {made.source}"
    yield f"  - load or write {size_text(plan.size)}; everything live stays as it is"
    yield _time(plan)


def _beside_text(result: BesideResult) -> str:
    lines = [f"Restored from {result.plan.name} in {seconds_text(result.seconds)}; everything live is as it was."]
    for made in result.made:
        where = f" in {made.where}" if made.where else ""
        lines.append(f"  made       the {made.kind} {made.name}{where}")
    return "\n".join(map(printable, lines))


def _whole(plan: RestorePlan) -> list[str]:
    lines: list[str] = []
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
    return lines


def _database(plan: DatabasePlan) -> Iterator[str]:
    rows = sum(plan.script.rows.values())
    size = f"{count_text(len(plan.script.rows), 'table')}, {count_text(rows, 'row')}, {size_text(plan.script.size)}"
    around = plan.surroundings
    if plan.in_place:
        yield f"  - replace what is in the database {plan.live} ({size}), in one transaction; it is not kept, but for a"
        yield "    backup of the present state, which is taken first. Sessions in the way are ended, others wait."
    elif plan.replaces:
        now = "" if around is None or around.database_bytes is None else f" of {size_text(around.database_bytes)}"
        yield f"  - replace the database {plan.live} ({size}); the present one{now} is kept as"
        yield f"    {plan.previous}. Sessions that use it are ended."
    else:
        yield f"  - create the database {plan.live} ({size})"
    if around is None:
        return
    for group in () if plan.in_place else around.sessions[:_SESSIONS]:
        program = f" ({group.application})" if group.application else ""
        yield f"  - end {count_text(group.count, 'session')} of {group.user}{program} from {group.address}"
    if len(around.sessions) > _SESSIONS and not plan.in_place:
        yield f"  - end sessions of {count_text(len(around.sessions) - _SESSIONS, 'more kind')}"
    if plan.script.dumped_from:
        yield f"  - go from PostgreSQL {plan.script.dumped_from} to {around.server_version}"


def _time(plan: RestorePlan | BesidePlan) -> str:
    if plan.estimate.seconds is None:
        return "How long that takes is not known: nothing was restored here yet."
    earlier = count_text(plan.estimate.runs, "earlier restore")
    return f"That should take about {seconds_text(plan.estimate.seconds)}, going by {earlier}."


def _whole_text(result: RestoreResult) -> str:
    plan = result.plan
    lines = [f"Restored {plan.name} in {seconds_text(result.seconds)}."]
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
    if plan.database is None or not plan.database.in_place:
        lines.append("`resurgam undo` takes this back.")
    lines.append("Restart the application, so that it opens new connections and reads its files again.")
    return "\n".join(map(printable, lines))

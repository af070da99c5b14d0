"""`resurgam delete`, `prune` and `pin`: which backups go, and which must stay."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import DryRunOption, Face, JsonOption, NameArgument, YesOption
from resurgam.cli.wording import columns, printable, size_text
from resurgam.counting import count_text

if TYPE_CHECKING:
    from resurgam.operations.deletion import DeleteResult
    from resurgam.operations.retention import PruneResult


def delete(
    name: NameArgument,
    yes: YesOption = False,
    local: Annotated[bool, typer.Option("--local", help="Only the local copy; the remote one stays.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> int:
    """Delete a backup and its remote copy."""
    face = Face(json)
    if not (yes or dry_run):
        face.require_terminal()
    with face.service() as service:
        if dry_run or not yes:
            plan = service.delete(name, local_only=local, dry_run=True)
        if dry_run:
            face.answer(plan.to_json(), _delete_text(plan))
            return exits.OK
        if not yes:
            face.confirm("Delete it?", _delete_text(plan))
        with audited(service, "delete", name, {"local_only": local}):
            result = service.delete(name, local_only=local)
    face.answer(result.to_json(), _delete_text(result))
    return exits.OK


def prune(
    dry_run: DryRunOption = False,
    accept: Annotated[
        bool,
        typer.Option(
            "--accept", help="You have looked: suspicious backups count like any other, and much may be freed at once."
        ),
    ] = False,
    yes: YesOption = False,
    json: JsonOption = False,
) -> int:
    """Delete what the retention no longer keeps, and free what no backup in a repository needs.

    Nothing is deleted while a backup is suspicious: much smaller than the one before, or one that failed its drill. Of
    a repository a terminal is asked first.
    """
    face = Face(json)
    with face.service() as service:
        if service.settings.repository is not None and not (yes or dry_run or json) and sys.stdin.isatty():
            face.confirm("Prune?", _prune_text(service.prune(dry_run=True, accept=accept)))
        if dry_run:
            result = service.prune(dry_run=True, accept=accept)
        else:
            with audited(service, "prune", service.settings.app_name, {"accept": accept}) as noted:
                result = service.prune(accept=accept)
                noted |= {"deleted": len(result.deleted), "errors": len(result.errors)}
    if result.frozen:
        face.warn(f"Nothing expires: {' '.join(result.frozen)} Look, then: resurgam prune --accept")
    face.answer(result.to_json(), "" if json else _prune_text(result))
    return exits.DEGRADED if result.errors else exits.OK


def pin(
    name: NameArgument,
    remove: Annotated[bool, typer.Option("--remove", help="Give it back to the retention.")] = False,
    json: JsonOption = False,
) -> int:
    """Keep a backup whatever the retention says."""
    face = Face(json)
    with face.service() as service, audited(service, "unpin" if remove else "pin", name):
        pinned = service.pin(name, remove=remove)
    text = f"{pinned} is no longer pinned." if remove else f"{pinned} is pinned: no retention deletes it."
    face.answer({"success": True, "backup_name": pinned, "pinned": not remove}, text)
    return exits.OK


def _delete_text(result: DeleteResult) -> str:
    verb = "Would delete" if result.dry_run else "Deleted"
    text = f"{verb} {result.name} ({', '.join(result.deleted)}), {size_text(result.freed)}."
    return f"{text} A copy stays: {', '.join(result.remaining)}." if result.remaining else text


def _prune_text(result: PruneResult) -> str:
    if not result.decisions:
        return f"There are no backups.{_collected_text(result)}"
    rows = [
        (
            "keep" if one.decision.keep else "FAILED" if one.error else "delete",
            one.decision.name,
            one.location,
            one.error or one.decision.reason,
        )
        for one in result.decisions
    ]
    verb = "would be deleted" if result.dry_run else "deleted"
    freed = size_text(sum(one.size for one in result.deleted))
    table = columns(("ACTION", "NAME", "WHERE", "REASON"), rows)
    text = f"{table}\n{count_text(len(result.deleted), 'backup')} {verb}, {freed}"
    return _printable_lines(f"{text}{_collected_text(result)}")


def _collected_text(result: PruneResult) -> str:
    if result.collected is None:
        return ""
    told = result.collected.to_json()
    if result.dry_run:
        of = f"{size_text(told['frees_bytes'])} of {size_text(told['repository_bytes'])}"
        return f"\nThe repository would be {of} smaller now; what deleted backups alone need comes to that."
    waiting = f"; {count_text(told['waiting_packs'], 'pack')} left for the next prune" if told["waiting_packs"] else ""
    rewritten = f"; {size_text(told['rewritten_bytes'])} were written anew" if told["rewritten_bytes"] else ""
    return f"\nThe repository gave back {size_text(told['freed_bytes'])}{rewritten}{waiting}."


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))

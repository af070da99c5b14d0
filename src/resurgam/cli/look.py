"""`resurgam list`, `show` and `verify`: what there is, and whether it is sound."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption, NameArgument, NamesArgument, QuietOption
from resurgam.cli.wording import columns, moment_text, printable, size_text
from resurgam.counting import count_text
from resurgam.errors import ResurgamError, UsageError

if TYPE_CHECKING:
    from resurgam.operations.verify_all import VerifyAllResult
    from resurgam.service import Service

# Damaged backups whose problem a list tells.
_NAMED = 5
AllOption = Annotated[bool, typer.Option("--all", help="Every backup there is, instead of names.")]


def list_backups(json: JsonOption = False) -> int:
    """List all backups, the newest first."""
    face = Face(json)
    with face.service() as service:
        backups = service.list_backups()
        rules = service.settings.repository
        place = str(service.settings.backup_dir) if rules is None else rules.place
        if rules is not None and rules.writer_key_file is not None:
            place += " that this machine may see"
    face.answer(backups, "" if json else _list_text(backups, place))
    return exits.OK


def show(name: NameArgument, json: JsonOption = False) -> int:
    """Show one backup: its copies and what it holds."""
    face = Face(json)
    with face.service() as service:
        shown = service.show(name)
    face.answer(shown, "" if json else _show_text(shown))
    return exits.OK


def browse(
    name: NameArgument,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="A folder of the backup, as files/uploads.")] = "",
    json: JsonOption = False,
) -> int:
    """List what stands in one folder of a backup.

    `resurgam restore NAME --file PATH --target FOLDER` takes one out, without reading the rest.
    """
    from resurgam import moving

    face = Face(json)
    with face.service() as service:
        found, page = moving.browse(service, name, path, sys.maxsize, None)
    entries = [child.to_json() for child in page.children]
    answer = {"backup_name": found, "path": path.strip("/"), "entries": entries}
    face.answer(answer, "" if json else _browse_text(entries))
    return exits.OK


def verify(
    names: NamesArgument = None,
    every: AllOption = False,
    full: Annotated[
        bool, typer.Option("--full", help="Of a repository, read everything; archives are always read whole.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Check backups to the last byte.

    Every digest, the tar stream, the metadata and the dump. Nothing is restored. Of a repository without --full: that
    everything is there, and another thirtieth of the bytes each day.
    """
    if every == bool(names):
        raise UsageError("verify takes names of backups, or --all; nothing was done.", "`resurgam list` shows them.")
    face = Face(json, quiet)
    with face.service() as service:
        if not names:
            checked = service.verify_all(full=full)
            face.answer(checked.to_json(), _all_sound(checked))
            return exits.OK
        if len(names) == 1:
            result = service.verify(names[0], full=full).to_json()
            face.answer(result, _sound(result))
            return exits.OK
        results, codes = [], []
        for name in names:
            answered, code = _verified(service, name, full)
            results.append(answered)
            codes.append(code)
    success = not any(codes)
    texts = [_sound(one) if one["success"] else f"{one['backup_name']}: {one['error']}" for one in results]
    face.answer({"success": success, "verifications": results}, "\n".join(map(printable, texts)))
    return exits.OK if success else exits.FAILED if exits.FAILED in codes else max(codes)


def _all_sound(checked: VerifyAllResult) -> str:
    counted, stored = count_text(len(checked.sound), "backup"), checked.repository
    if stored is None or stored["full"]:
        return f"{counted}, {size_text(checked.size)}, all sound."
    return (
        f"{counted}: every piece of them is there. Of {size_text(stored['bytes_stored'])} today's share was read, "
        f"{size_text(checked.size)}, and is sound; --full reads everything."
    )


def _browse_text(children: list[dict[str, Any]]) -> str:
    rows = [
        (
            one["kind"],
            "-" if one["kind"] == "folder" else size_text(one["size"]),
            "-" if one["mtime"] is None else moment_text(one["mtime"][:19]),
            printable(one["name"]) + (f" -> {one['target']}" if one["target"] else ""),
        )
        for one in children
    ]
    return columns(("KIND", "SIZE", "CHANGED", "NAME"), rows, frozenset({1}))


def _verified(service: Service, name: str, full: bool) -> tuple[dict[str, Any], int]:
    """One of several: a bad one must not keep the others from being looked at."""
    from resurgam.jobs.answers import error_json

    try:
        return service.verify(name, full=full).to_json(), exits.OK
    except ResurgamError as error:
        return {**error_json(error), "backup_name": name}, exits.exit_code(error)


def _sound(result: dict[str, Any]) -> str:
    read = "is sound" if result["full"] else "is there, and what was read of it is sound"
    return (
        f"{result['backup_name']} {read}: {count_text(result['total_files'], 'file')}, "
        f"{count_text(result['tables'], 'table')} with {count_text(result['rows'], 'row')}, "
        f"{size_text(result['size_bytes'])}, taken {moment_text(result['backup_date'])}."
    )


def _list_text(backups: list[dict[str, Any]], place: str) -> str:
    if not backups:
        return f"There are no backups in {place}. `resurgam backup` takes one."
    rows = [
        (
            one["backup_name"],
            moment_text(one["datetime"]),
            size_text(one["size_bytes"]),
            "-" if one["database_size_bytes"] is None else size_text(one["database_size_bytes"]),
            ", ".join(one["locations"]),
            one["condition"],
        )
        for one in backups
    ]
    table = columns(("NAME", "TAKEN", "SIZE", "DATABASE", "WHERE", "CONDITION"), rows, frozenset({2, 3}))
    total = sum(one["size_bytes"] for one in backups)
    damaged = [one for one in backups if one["condition"] == "damaged"]
    told = [f"{one['backup_name']}: {printable(one['problem'])}" for one in damaged[:_NAMED]]
    more = [f"{count_text(len(damaged) - _NAMED, 'more backup')} damaged."] if len(damaged) > _NAMED else []
    return "\n".join([table, f"{count_text(len(backups), 'backup')}, {size_text(total)}", *told, *more])


def _show_text(shown: dict[str, Any]) -> str:
    lines = [shown["backup_name"], f"  taken      {moment_text(shown['datetime'])}"]
    for copy in shown["copies"]:
        problem = f": {copy['problem']}" if copy["problem"] else ""
        lines.append(f"  {copy['location']:<9}  {copy['path']}, {copy['size_mb']} MB, {copy['condition']}{problem}")
    metadata = shown["metadata"] or {}
    lines += [f"  {head:<9}  {text}" for head, text in _contents(metadata)]
    lines += [f"  warning    {warning}" for warning in _listed(metadata.get("warnings"))]
    return "\n".join(map(printable, lines))


def _contents(metadata: dict[str, Any]) -> list[tuple[str, str]]:
    """Metadata of a foreign archive may have any shape: what is not as expected is left out."""
    found = []
    database, config, files = (metadata.get(key) for key in ("database", "configuration", "files"))
    if isinstance(database, dict):
        tables = database.get("tables")
        held = f", {count_text(len(tables), 'table')}" if isinstance(tables, list) else ""
        found.append(("database", f"{database.get('file')}, {database.get('size_mb')} MB{held}"))
    if isinstance(config, dict):
        found.append(("config", ", ".join(map(str, _listed(config.get("files")))) or "none"))
    if isinstance(files, dict):
        found.append(("files", ", ".join(map(str, _listed(files.get("directories")))) or "none"))
    return found


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []

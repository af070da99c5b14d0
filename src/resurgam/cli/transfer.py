"""`resurgam export` and `import`: a backup out into one archive, an archive in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.audit import audited
from resurgam.cli.face import Face, JsonOption, NameArgument, QuietOption
from resurgam.cli.wording import size_text

if TYPE_CHECKING:
    from resurgam.operations.transfer import ExportResult, ImportResult


def export(
    name: NameArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, or a folder.")],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write a backup as one .tar.gz, which tar opens.

    It is read back. Each export of a backup is the same, byte by byte. It is not encrypted, also if the backup is.
    """
    from resurgam import moving

    face = Face(json, quiet)
    with face.service() as service, audited(service, "export", name, {"file": str(file)}):
        result: ExportResult = moving.export_backup(service, name, file)
    face.answer(result.to_json(), f"{result.path}, {size_text(result.size)}, BLAKE3 {result.digest}.")
    return exits.OK


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive, ours or in the manual's layout.")],
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Take an archive among the backups, after it was verified to the last byte.

    An encrypted one is opened by the key of the settings. If the same backup is there already, all is well.
    """
    from resurgam import moving

    face = Face(json, quiet)
    with face.service() as service, audited(service, "import", file.name, {"file": str(file)}):
        result: ImportResult = moving.import_archive(service, file)
    told = "is among the backups" if result.new else "was among the backups already, the same byte by byte"
    face.answer(result.to_json(), f"{result.name} {told}.\n  {result.place}, {size_text(result.size)}")
    return exits.OK

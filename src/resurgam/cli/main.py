"""The command line: parses, calls the service, maps what comes back to words or JSON and to an exit code.

Nothing heavy is imported here; each command imports what it needs when it runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from resurgam import __version__
from resurgam.cli import audit, exits, keys, notify, token
from resurgam.cli.backup import backup
from resurgam.cli.drill import drill
from resurgam.cli.evidence import evidence
from resurgam.cli.face import InternalError, print_err, print_out, report
from resurgam.cli.health import health
from resurgam.cli.look import browse, list_backups, show, verify
from resurgam.cli.removal import delete, pin, prune
from resurgam.cli.repair import repair
from resurgam.cli.restore import restore
from resurgam.cli.schedule import schedule
from resurgam.cli.serve import serve
from resurgam.cli.setup import completion, demo, doctor, init
from resurgam.cli.transfer import export, import_
from resurgam.cli.undo import undo
from resurgam.errors import ResurgamError
from resurgam.memory import collect_rarely, use_one_arena
from resurgam.stopping import UNDONE, StopSignals, what_became

_COMPLETE = "_RESURGAM_COMPLETE"
_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {meaning}" for code, meaning in exits.MEANINGS)

app = typer.Typer(
    name="resurgam",
    help="Backups of a PostgreSQL application that prove they can be restored.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    init,
    backup,
    list_backups,
    show,
    browse,
    verify,
    restore,
    undo,
    drill,
    evidence,
    export,
    import_,
    delete,
    prune,
    repair,
    pin,
    doctor,
    health,
    schedule,
    serve,
    demo,
    completion,
):
    app.command(_command.__name__.removesuffix("_backups").rstrip("_"), epilog=_EPILOG)(_command)
for _group in (keys.app, token.app, audit.app, notify.app):
    app.add_typer(_group, epilog=_EPILOG)


def _version(wanted: bool) -> None:
    if wanted:
        print_out(f"resurgam {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; answers its exit code (`exits.py`; 128 and the signal's number if one ended it)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in given
    if _COMPLETE in os.environ:
        from typer._completion_classes import completion_init  # what Typer does itself with --install-completion

        completion_init()
    use_one_arena()
    collect_rarely()
    stop = StopSignals()
    stop.install()
    try:
        returned = app(given, prog_name="resurgam", standalone_mode=False)
        code = returned if isinstance(returned, int) else exits.OK
    except ResurgamError as error:
        code = exits.FAILED if stop.received else report(error, as_json=as_json)
    except TyperException as error:
        code = _usage(error, as_json)
    except InternalError as error:
        code = _plain(str(error), "internal", "Please report it, with the log.", as_json, exits.FAILED)
    if stop.received is not None:
        became = what_became()
        text, hint = f"Ended by {stop.received.name}; {became.words}.", "Run the command again."
        if became.complete:
            hint = "It need not be run again; the log says how it ended."
        elif became != UNDONE:
            hint = "The next backup or restore settles it; `resurgam doctor` shows what is left to settle."
        return _plain(text, "stopped", hint, as_json, stop.exit_code)
    return code


def _usage(error: TyperException, as_json: bool) -> int:
    if as_json:
        return _plain(error.format_message(), "usage", "See --help.", True, exits.USAGE)
    error.show() if hasattr(error, "show") else print_err(error.format_message())
    return exits.USAGE


def _plain(message: str, code: str, hint: str, as_json: bool, status: int) -> int:
    """Tell of what is no ResurgamError."""
    if as_json:
        print_out(json.dumps({"success": False, "error": message, "code": code, "hint": hint}))
    else:
        print_err(message)
    return status

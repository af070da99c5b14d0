"""docs/commands.md, written from the commands: `python -m resurgam.cli.reference > docs/commands.md`.

A test compares the file with this, so the page can not fall behind.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import typer

from resurgam.cli.exits import MEANINGS
from resurgam.cli.main import app

_HEAD = """\
# Commands

<!-- Written by `python -m resurgam.cli.reference`; change src/resurgam/cli/ instead. -->

`resurgam COMMAND`, or `python -m resurgam COMMAND`. Answers go to stdout; progress, warnings and errors go to stderr.
An error says what happened, what is untouched, and what to do. Settings come from the environment
([settings.md](settings.md)).

With `--json` stdout carries exactly one JSON value. What went wrong is an object too:
`{"success": false, "error": "…", "code": "…", "hint": "…"}`; the codes do not change between versions. `list --json`
is the manual's array.

On a terminal `restore` and `delete` show what they will do and ask; only `yes` counts. Elsewhere they need `--yes`.

Bars are drawn on a terminal only; a line for each phase elsewhere, nothing with `--quiet` or `--json`. `NO_COLOR` is
honoured. Ctrl-C, SIGTERM and SIGHUP undo what is under way before the command ends; it can be run again at once.

## Exit codes
| code | meaning |
| --- | --- |
"""

_BRACES = str.maketrans("", "", "{}")
_TAIL = """
## `python run_backup.py`
The manual's script for cron and systemd: `backup` with its log in `APP_DIR/logs/backup.log`. It exits 0 or 1 only. 1
stands for a degraded run as well (the backup is whole, its remote copy failed), for a schedule has nobody who would
read a message; `grep ERROR` finds the reason in the log.
"""


def reference() -> str:
    """The page."""
    codes = [f"| {code} | {meaning} |\n" for code, meaning in MEANINGS]
    told = "the message says whether what was under way was undone, or complete by then"
    signals = f"| 130, 143 | ended by Ctrl-C, by SIGTERM; {told} |\n"
    return "".join([_HEAD, *codes, signals, *_commands(), _TAIL])


def _commands() -> list[str]:
    pages = []
    for name, command in _named_commands(typer.main.get_command(app)):
        context = command.make_context(f"resurgam {name}", [], resilient_parsing=True)
        usage = "".join(f" {piece.translate(_BRACES)}" for piece in command.collect_usage_pieces(context)[1:])
        rows = [record for param in command.get_params(context) if (record := param.get_help_record(context))]
        options = [f"| `{left.split(' <')[0]}` | {right} |\n" for left, right in rows if "--help" not in left]
        pages.append(f"\n## `resurgam {name}{usage}`\n{inspect.cleandoc(command.help or '')}\n")
        if options:
            pages.append("\n| option | meaning |\n| --- | --- |\n" + "".join(options))
    return pages


def _named_commands(group: object, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, those of groups (`token create`) too."""
    for name, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from _named_commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


if __name__ == "__main__":
    sys.stdout.write(reference())

"""`resurgam init`, `doctor`, `demo` and `completion`: getting started, and finding out what is wrong."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resurgam.cli import exits
from resurgam.cli.face import Face, JsonOption, print_out
from resurgam.cli.wording import printable
from resurgam.counting import count_text
from resurgam.errors import SettingsError, UsageError

if TYPE_CHECKING:
    from resurgam.operations.doctor import Check

_MARKS = {"ok": "ok     ", "warning": "WARNING", "problem": "PROBLEM"}


class Shell(StrEnum):
    """The shells that completion is written for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def init(
    recipients: Annotated[
        list[str] | None,
        typer.Option("--recipient", metavar="AGE1…", help="An age recipient that shall open the new repository too."),
    ] = None,
    kit: Annotated[
        Path | None, typer.Option("--kit", metavar="FILE", help="Make a recovery kit: a new .html or .txt file.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """Make the folders, or the repository, ready.

    BACKUP_DIR and the state file are made; BACKUP_REPOSITORY becomes a repository that the passphrase of the settings
    opens; REMOTE_BACKUP_PATH gets the marker file that says that its disk is mounted. Harmless again.
    """
    from resurgam import readiness

    face = Face(json)
    with face.service() as service:
        if service.settings.repository is None and (recipients or kit):
            raise UsageError("--recipient and --kit are about a repository, and BACKUP_REPOSITORY is not set.")
        steps, made = list(readiness.set_up(service)), None
        if service.settings.repository is not None:
            made = readiness.make_repository(service, tuple((one[:12], one) for one in recipients or ()), kit)
            steps.append(f"The repository {made.url} {'was made' if made.new else 'is ready'} ({made.id}).")
        if kit is not None:
            steps.append(f"{kit} is the recovery kit. Print it, delete it, and prove it: resurgam keys kit --prove")
    repository = None if made is None else made.to_json()
    face.answer({"success": True, "steps": steps, "repository": repository}, "\n".join(steps))
    return exits.OK


def doctor(json: JsonOption = False) -> int:
    """Look for what is wrong, with the fix.

    Settings, connection, client tools, permissions, space, clocks, and what earlier restores left. Changes nothing.
    Exits 1 if there is a problem.
    """
    from resurgam import readiness
    from resurgam.operations.doctor import Check

    face = Face(json)
    try:
        with face.service() as service:
            checks = readiness.doctor(service)
    except SettingsError as error:
        checks = (Check("settings", "problem", error.message, error.hint),)
    problems = [check for check in checks if check.status == "problem"]
    result: dict[str, Any] = {"success": not problems, "checks": [check.to_json() for check in checks]}
    face.answer(result, _doctor_text(checks))
    return exits.FAILED if problems else exits.OK


def demo(
    reports: Annotated[int, typer.Option("--reports", metavar="N", min=1, help="The sample's size.")] = 2000,
    json: JsonOption = False,
) -> int:
    """See it work on a sample application.

    It is backed up, wrecked, restored and compared, on a throw-away server.
    """
    from resurgam.demo.walkthrough import run_demo

    code = run_demo(reports, sys.stderr if json else sys.stdout)
    if json:
        Face(json).answer({"success": code == 0, "reports": reports}, "")
    return exits.OK if code == 0 else exits.FAILED


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")] = Shell.bash,
    json: JsonOption = False,
) -> int:
    """Print a shell's completion script.

    For this session: source <(resurgam completion bash)
    """
    from typer._completion_shared import get_completion_script  # private there, and the only way to it

    script = get_completion_script(prog_name="resurgam", complete_var="_RESURGAM_COMPLETE", shell=shell.value)
    if json:
        Face(json).answer({"success": True, "shell": shell.value, "script": script}, "")
    else:
        print_out(script)
    return exits.OK


def _doctor_text(checks: tuple[Check, ...]) -> str:
    lines = []
    for check in checks:
        lines.append(f"{_MARKS[check.status]}  {check.name}: {check.finding}")
        if check.fix:
            lines.append(f"         fix: {check.fix}")
    problems = sum(check.status == "problem" for check in checks)
    warnings = sum(check.status == "warning" for check in checks)
    lines.append(
        f"{count_text(len(checks), 'check')}: {count_text(problems, 'problem')}, {count_text(warnings, 'warning')}."
    )
    return "\n".join(map(printable, lines))

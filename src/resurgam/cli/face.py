"""What every command shares: its options, its answer on stdout, warnings and errors on stderr, the open service.

In JSON mode stdout carries exactly one JSON value, whatever happens.
"""

from __future__ import annotations

import json
import os
import pwd
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from resurgam.cli import exits
from resurgam.cli.wording import printable
from resurgam.errors import ResurgamError, UsageError

if TYPE_CHECKING:
    from resurgam.runlog import RunLog
    from resurgam.service import Service

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON value on stdout and nothing else there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


def complete_names(incomplete: str) -> list[str]:
    """Completion of a backup's name: from the folder's file names alone, so that the Tab key is quick."""
    from resurgam.settings import load_settings
    from resurgam.stores.folder import BackupFolder

    try:
        found = BackupFolder(load_settings(os.environ).backup_dir).archives()
    except ResurgamError:
        return []
    return [archive.name for archive in reversed(found) if archive.name.startswith(incomplete)]


NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="The backup's name, as `resurgam list` shows it.", autocompletion=complete_names
    ),
]
OptionalName = Annotated[
    str,
    typer.Argument(
        metavar="[NAME]", help="The backup's name, as `resurgam list` shows it.", autocompletion=complete_names
    ),
]
NamesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="Names of backups, as `resurgam list` shows them.", autocompletion=complete_names
    ),
]


class InternalError(Exception):
    """A bug of ours, already in the log (or on stderr where there is none)."""


@dataclass(frozen=True, slots=True)
class Face:
    """How one command speaks."""

    json: bool = False
    quiet: bool = False
    _told: set[str] = field(default_factory=set)

    def answer(self, result: object, text: str) -> None:
        """The command's result: `result` as JSON, or `text`."""
        print_out(json.dumps(result) if self.json else text)

    def warn(self, *sentences: str) -> None:
        """Warnings on stderr, each once."""
        for sentence in sentences:
            if sentence not in self._told:
                self._told.add(sentence)
                print_err(f"Warning: {printable(sentence)}")

    @contextmanager
    def service(self) -> Iterator[Service]:
        """The service, with this face's progress. Errors come as ResurgamError, bugs as InternalError."""
        from resurgam.cli.progress_bars import shown_progress
        from resurgam.jobs.recorded import Asked, as_resurgam_error
        from resurgam.service import Service
        from resurgam.stopping import unwind_main_thread

        with Service.from_environment(os.environ) as service:
            service.asked = Asked("cli", user_name(), cancel=unwind_main_thread)
            if service.repository is not None:
                service.repository.waiting = self.warn
            try:
                with shown_progress(silent=self.json or self.quiet) as progress:
                    service.progress = progress
                    yield service
            except ResurgamError:
                raise
            except Exception as raised:
                error = as_resurgam_error(raised)
                if error is not None:
                    raise error from raised
                raise InternalError(_internal(raised, service.log)) from raised
            finally:
                self.warn(*service.warnings())

    def require_terminal(self) -> None:
        """UsageError where nobody can be asked."""
        if self.json or not sys.stdin.isatty():
            raise UsageError(
                "This changes or deletes data, so it must be confirmed; nothing was done.",
                "Give --yes, or run it on a terminal to be asked.",
            )

    def confirm(self, question: str, shown: str) -> None:
        """Show what will happen and ask for `yes`. UsageError if the answer is another."""
        self.require_terminal()
        print_err(shown)
        sys.stderr.write(f"\n{question} Type yes to go on: ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() != "yes":
            raise UsageError("It was not confirmed; nothing was done.")


def user_name() -> str:
    """Who runs this command, by the system's word rather than by an environment variable's."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without an entry
        return str(os.getuid())


def report(error: ResurgamError, *, as_json: bool) -> int:
    """Tell of an error; the exit code that belongs to it."""
    if as_json:
        from resurgam.jobs.answers import error_json

        print_out(json.dumps(error_json(error)))
        return exits.exit_code(error)
    problems = getattr(error, "problems", ())
    if problems:
        print_err("Refused; nothing was touched:")
        for problem in problems:
            print_err(f"  - {printable(problem)}")
    else:
        print_err(f"Error: {printable(error.message)}")
    if error.hint:
        print_err(f"What to do: {printable(error.hint)}")
    return exits.exit_code(error)


def print_out(text: str) -> None:
    """A whole answer in one go. A reader that has gone (`| head`) does not change how the command ended."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_err(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _internal(raised: Exception, log: RunLog) -> str:
    """Put the traceback into the log, and say so in one line."""
    what = f"internal error: {type(raised).__name__}: {raised}"
    log.error(what)
    lines = [line for part in traceback.format_exception(raised) for line in part.splitlines()]
    for line in lines:
        log.info(f"  {line}")
    if log.trouble:
        print_err("\n".join(lines))
        return f"{what} (the traceback is above; {log.trouble})"
    return f"{what} (the traceback is in {log.path})"

"""Commands of the user's around a backup and its sources: to quiesce the application, and to let it go on.

The rules are docs/ordering.md's, sentences 20 to 25. A hook gets no secret: its environment is what passes to every
program that we start, and four variables that say what it is called for.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Literal

from resurgam import processes
from resurgam.errors import HookError, ResurgamError
from resurgam.operations.progress import Progress
from resurgam.settings import inherited
from resurgam.settings.service_model import Hooks

When = Literal["before", "after"]
_KEPT_LINES = 5
_LINE_BYTES = 400
# Who cancels a backup, or stops the service, gets an end within 10 s; the application must be let go on in them.
_HURRIED_SECONDS = 5.0
# One that does not heed SIGTERM is killed after this; sooner where we are in a hurry ourselves.
_GRACE_SECONDS, _HURRIED_GRACE_SECONDS = 5.0, 1.0
# What a hook started and left behind may hold the pipe for ever; the reader is given up then.
_READ_SECONDS = 1.0
_HINT = "Run the command by hand; BACKUP_HOOK_TIMEOUT is how long it may take."


def run_hook(
    command: tuple[str, ...],
    when: When,
    source: str,
    facts: Mapping[str, str],
    timeout: float | None,
    environ: Mapping[str, str],
    grace: float = _GRACE_SECONDS,
) -> None:
    """Run one hook to its end. HookError if it can't be started, fails, or takes longer than `timeout` seconds.

    `source` is "" for the whole run; `facts` become RESURGAM_ variables. However this ends, except by the hook's own
    success, nothing of its process group is left: it has `grace` seconds to heed SIGTERM, one if we are interrupted.
    """
    name = _name(when, source)
    environment = {
        **inherited(environ),
        "RESURGAM_WHEN": when,
        "RESURGAM_SOURCE": source or "run",
        **{f"RESURGAM_{fact.upper()}": value for fact, value in facts.items()},
    }
    try:
        process = processes.start(command, environment, stderr=subprocess.STDOUT, own_session=True)
    except OSError as error:
        raise HookError(
            f"{name} could not be started: {command[0]}: {error.strerror}.", "It is run without a shell."
        ) from None
    said: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_keep, args=(process.stdout, said), daemon=True)
    reader.start()
    try:
        status = process.wait(timeout)
    except subprocess.TimeoutExpired:
        processes.end_group(process, grace)
        reader.join(_READ_SECONDS)
        raise HookError(f"{name} took longer than {timeout:g} s and was ended{_tail(said)}.", _HINT) from None
    except BaseException:
        processes.end_group(process, _HURRIED_GRACE_SECONDS)
        raise
    reader.join(_READ_SECONDS)
    if status != 0:
        processes.end_group(process)
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with exit status {status}"
        raise HookError(f"{name} {how}{_tail(said)}.", _HINT)


@dataclass(slots=True)
class HookedRun:
    """The hooks of one backup. `failures` are sentences of after-hooks that failed when all else went well."""

    hooks: Hooks
    environ: Mapping[str, str] = field(repr=False)
    progress: Progress
    backup: str
    failures: list[str] = field(default_factory=list)
    _hurried_until: float | None = None

    @contextmanager
    def around(self, source: str = "") -> Iterator[None]:
        """Run the block between the two hooks of a source, or of the whole run.

        HookError if the one before fails. The one after is run in any case once the one before was begun; what it
        fails with never hides what the block failed with.
        """
        try:
            self._run("before", source, {}, self.hooks.timeout)
            yield
        except BaseException as raised:
            self._after_a_failure(source, raised)
            raise
        try:
            self._run("after", source, {"outcome": "ok"}, self.hooks.timeout)
        except HookError as error:
            self.failures.append(error.message)

    def _after_a_failure(self, source: str, raised: BaseException) -> None:
        try:
            self._run("after", source, {"outcome": "failed"}, self._time_left(raised), told=False)
        except HookError as error:
            if isinstance(raised, ResurgamError):
                raised.message = f"{raised.message} Besides: {error.message}"
                raised.args = (raised.message,)
            else:
                raised.add_note(error.message)

    def _time_left(self, raised: BaseException) -> float | None:
        """As long as a hook may take; all hooks after an interrupt share a few seconds."""
        if isinstance(raised, Exception):
            return self.hooks.timeout
        if self._hurried_until is None:
            self._hurried_until = time.monotonic() + _HURRIED_SECONDS
        left = max(0.5, self._hurried_until - time.monotonic())
        return left if self.hooks.timeout is None else min(left, self.hooks.timeout)

    def _run(
        self, when: When, source: str, facts: Mapping[str, str], timeout: float | None, *, told: bool = True
    ) -> None:
        command = self.hooks.commands.get((when, source))
        if command is None:
            return
        if told:  # after a failure it could fail for the same reason, a full disk, and the hook would not be run
            self.progress.phase(f"Running the hook {when} {_place(source)}")
        grace = _GRACE_SECONDS if self._hurried_until is None else _HURRIED_GRACE_SECONDS
        run_hook(command, when, source, {"backup": self.backup, **facts}, timeout, self.environ, grace)


def _keep(stream: IO[bytes] | None, said: deque[str]) -> None:
    """Keep the last lines; a line without end is cut rather than kept whole."""
    if stream is None:
        return
    with stream:
        while line := stream.readline(_LINE_BYTES):
            if text := line.decode("utf-8", "backslashreplace").strip():
                said.append(text)


def _tail(said: deque[str]) -> str:
    return f": {' '.join(list(said))}".rstrip(".") if said else ""  # a copy: the reader may still be at it


def _name(when: When, source: str) -> str:
    return f"The hook {when} {_place(source)} (BACKUP_HOOK_{when.upper()}{f'_{source.upper()}' if source else ''})"


def _place(source: str) -> str:
    return f"the {source} source" if source else "the backup"

"""The job boundary: the one place that catches everything, so that no run ends without a record of how.

What it catches it records and raises again; nothing is swallowed here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from resurgam.errors import BusyError, DatabaseError, ResurgamError, StateError, StorageError
from resurgam.runlog import RunLog

if TYPE_CHECKING:
    from resurgam.catalog.state import Outcome, State

Result = TypeVar("Result")


def recorded(
    state: State,
    log: RunLog,
    kind: str,
    target: str,
    operation: Callable[[], Result],
    outcome: Callable[[Result], tuple[Outcome, str]],
) -> Result:
    """Run an operation, and keep its history and log. `outcome` tells `ok` from `degraded`, with a line for the log.

    Raises ResurgamError for whatever the system or the server did; anything else (a bug, an interrupt) passes
    through as it is, recorded as well.
    """
    run = state.begin_run(kind, target)
    log.info(f"{kind} {target}: started")
    try:
        result = operation()
    except BaseException as raised:
        error = as_resurgam_error(raised)
        refused = isinstance(error, BusyError)
        how: Outcome = "refused" if refused else "failed"
        log.error(f"{kind} {target}: {how}: {_reason(error or raised)}")
        try:
            state.finish_run(run, how, _reason(error or raised), _details(error))
        except StateError as untold:
            # Often for the same reason, a full disk: it must not hide what the run itself failed for.
            log.error(f"{kind} {target}: this could not be kept in the history: {untold.message}")
        if error is None or error is raised:
            raise
        raise error from raised
    ended, line = outcome(result)
    state.finish_run(run, ended, "" if ended == "ok" else line, {})
    (log.info if ended == "ok" else log.error)(f"{kind} {target}: {ended}: {line}")
    return result


def as_resurgam_error(error: BaseException) -> ResurgamError | None:
    """What the operating system and the server say, as an error of ours; None if it is neither."""
    import psycopg  # only where something failed: it takes longer to import than a list takes

    if isinstance(error, ResurgamError):
        return error
    if isinstance(error, psycopg.Error):
        said = " ".join(str(error.diag.message_primary or error).split())
        return DatabaseError(
            f"The database server ended the work: {said}.",
            "See the server's log; `resurgam doctor` tests the connection.",
        )
    if isinstance(error, OSError):
        where = f" ({error.filename})" if isinstance(error.filename, str) else ""
        return StorageError(
            f"The system refused: {error.strerror or error}{where}.", "`resurgam doctor` looks for causes."
        )
    return None


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, ResurgamError) else f"{type(error).__name__}: {error}".rstrip(": ")


def _details(error: ResurgamError | None) -> dict[str, Any]:
    return {} if error is None else {"code": error.code, "hint": error.hint}
